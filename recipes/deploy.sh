#!/usr/bin/env bash
# Deploy: the student behind an OpenAI-compatible API. vLLM on GPUs, transformers on a CPU.
#   bash recipes/deploy.sh                                               # what was exported last, else the checkpoint written last
#   MODEL=output/query_rewrite/grpo/checkpoint-50-merged PORT=8001 bash recipes/deploy.sh
#   ADAPTER=output/query_rewrite/sft/checkpoint-100 bash recipes/deploy.sh   # without merging
#   HOST=0.0.0.0 bash recipes/deploy.sh --api_key "$KEY"                 # open to the network: with a key
# Then: curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
#         -d '{"model": "query-rewrite", "messages": [{"role": "user", "content": "..."}]}'
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_profile
use_swift

HOST=${HOST:-127.0.0.1}
PORT=${PORT:-8000}
model=${MODEL:-${ADAPTER:-$(newest query_rewrite -merged)}}
model=${model:-$(newest query_rewrite)}
[[ -n $model ]] || { want "there is nothing under $ROOT/output/query_rewrite to deploy. Train first, or set MODEL= or ADAPTER="; model=$ROOT/output/query_rewrite/grpo/checkpoint-LAST-merged; }
model=$(local_or_hub "$model")
if is_adapter "$model"; then set_flags --adapters "$model"; else set_flags --model "$model"; fi

refuse_busy "$PORT"
set_flags --host "$HOST" --port "$PORT" --served_model_name query-rewrite
# The numbers of the rollouts; a client's own win.
set_flags --temperature 0.7 --top_p 0.9 --max_new_tokens 150
set_flags ${DEPLOY_FLAGS[@]+"${DEPLOY_FLAGS[@]}"} "$@"
run_swift deploy
