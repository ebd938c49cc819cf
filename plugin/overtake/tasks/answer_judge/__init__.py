"""A small judge of RAG answers (on the command line: judge)."""
