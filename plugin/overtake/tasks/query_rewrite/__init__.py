"""Query rewriting for RAG: rewrites that find more than the teacher's."""
