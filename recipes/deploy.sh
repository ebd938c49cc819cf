#!/usr/bin/env bash
# Deploy: a model behind an OpenAI-compatible API. vLLM on GPUs; transformers on a CPU, and anywhere with INFER=transformers.
#   bash recipes/deploy.sh                                               # what was exported last, else the checkpoint written last
#   MODEL=output/query_rewrite/grpo/checkpoint-50-merged PORT=8001 bash recipes/deploy.sh
#   ADAPTER=output/query_rewrite/sft/checkpoint-100 bash recipes/deploy.sh   # without merging
#   SYSTEM=finance bash recipes/deploy.sh                                # that system's student; SYSTEM=judge the small judge of answers
#   ROLE=teacher bash recipes/deploy.sh                                  # a teacher of one's own on port 8001, ROLE=judge one on 8002
#   HOST=0.0.0.0 bash recipes/deploy.sh --api_key "$KEY"                 # open to the network: with a key
# Then: curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
#         -d '{"model": "query-rewrite", "messages": [{"role": "user", "content": "..."}]}'
# A role is called by its name: OVERTAKE_TEACHER_BASE_URL=http://127.0.0.1:8001/v1 OVERTAKE_TEACHER_MODEL=teacher, the judge likewise.
# Three on one card: give the two on vLLM their share, as in --vllm_gpu_memory_utilization 0.45; PROFILE=1x24g-4bit serves in 4 bits (7B: 8 GB).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
SYSTEM=${SYSTEM:-query_rewrite}
ROLE=${ROLE:-student}
# ROLE: the model where MODEL= names none, the port, the name clients use, and how it answers; a client's own numbers win.
case $ROLE in
  student)
    port=8000 served=${SYSTEM//_/-}
    # The numbers of the rollouts. A solution or a verdict is wanted once and has a thought before it.
    answers=(--temperature 0.7 --top_p 0.9 --max_new_tokens 150)
    if [[ $SYSTEM == finance || $SYSTEM == judge ]]; then answers=(--temperature 0 --max_new_tokens 1024); fi ;;
  # DeepSeek recommends 0.6 and 0.95 for R1 and its distilled models; greedy, they repeat themselves.
  teacher) RECIPE_MODEL=deepseek-ai/DeepSeek-R1-Distill-Qwen-7B port=8001 served=teacher answers=(--temperature 0.6 --top_p 0.95 --max_new_tokens 8192) ;;
  judge) RECIPE_MODEL=Qwen/Qwen2.5-7B-Instruct port=8002 served=judge answers=(--temperature 0 --max_new_tokens 512) ;;
  *) die "ROLE=$ROLE is none of: student, teacher, judge" ;;
esac
use_profile
use_swift

HOST=${HOST:-127.0.0.1}
PORT=${PORT:-$port}
model=${MODEL:-${ADAPTER:-}}
if [[ -z $model && $ROLE == student ]]; then
  model=$(newest "$SYSTEM" -merged)
  model=${model:-$(newest "$SYSTEM")}
  [[ -n $model ]] || { want "there is nothing under $ROOT/output/$SYSTEM to deploy. Train first, or set MODEL= or ADAPTER="; model=$ROOT/output/$SYSTEM/grpo/checkpoint-LAST-merged; }
fi
model=$(local_or_hub "${model:-$RECIPE_MODEL}")
if is_adapter "$model"; then set_flags --adapters "$model"; else set_flags --model "$model"; fi

refuse_busy "$PORT"
set_flags --host "$HOST" --port "$PORT" --served_model_name "$served"
# A client that hangs up ends its generation, which would hold a place to its last token.
set_flags --external_plugins "$ROOT/plugin/register_deploy.py"
set_flags "${answers[@]}"
set_flags ${DEPLOY_FLAGS[@]+"${DEPLOY_FLAGS[@]}"}
# A chain of thought is longer than what the profiles leave room for.
if [[ $ROLE == teacher && $(flag --infer_backend) == vllm ]]; then set_flags --vllm_max_model_len 12288; fi
if [[ -n ${INFER:-} ]]; then set_flags --infer_backend "$INFER"; drop_flags --vllm_max_model_len --vllm_tensor_parallel_size; fi
set_flags "$@"
# ms-swift writes what is asked and answered beside the model: for its owner's eyes.
umask 077
run_swift deploy
