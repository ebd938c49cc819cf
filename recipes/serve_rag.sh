#!/usr/bin/env bash
# The retrieval service of the project (POST /api/chat/general_rag) over knowledge bases on this machine. No GPU.
#   bash recipes/serve_rag.sh                        # the samples in datasets/query_rewrite
#   bash recipes/serve_rag.sh my_kb other_kb         # your own
#   PORT=9000 bash recipes/serve_rag.sh
# Then: OVERTAKE_RAG_URL=http://127.0.0.1:8900 bash recipes/grpo_rag.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_swift

# Arguments up to the first flag are knowledge bases.
bases=()
while (($#)) && [[ $1 != --* ]]; do bases+=("$(absolute "$1")"); shift; done
((${#bases[@]})) || bases=("$ROOT"/datasets/query_rewrite/*/)

command=(python "$ROOT/tools/serve_rag.py" "${bases[@]%/}" --host "${HOST:-127.0.0.1}" --port "${PORT:-8900}" "$@")
for word in "${command[@]}"; do printf "%s " "$(quote "$word")"; done; echo
dry || run_group "${command[@]}"
