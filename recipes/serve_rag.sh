#!/usr/bin/env bash
# The retrieval service of the project (POST /api/chat/general_rag) over knowledge bases on this machine. No GPU.
#   bash recipes/serve_rag.sh                        # the samples in datasets/query_rewrite
#   bash recipes/serve_rag.sh my_kb other_kb         # your own
#   PORT=9000 bash recipes/serve_rag.sh
# Then: OVERTAKE_RAG_URL=http://127.0.0.1:8900 bash recipes/grpo_rag.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
hand samples 'query_rewrite/*/'
launch serve "$@"
