#!/usr/bin/env bash
# Deploy: a model behind an OpenAI-compatible API, by vLLM; with INFER=transformers by transformers, which takes any architecture.
#   bash recipes/deploy.sh                                               # what was exported last, else the checkpoint written last
#   MODEL=output/query_rewrite/grpo/checkpoint-50-merged PORT=8001 bash recipes/deploy.sh
#   ADAPTER=output/query_rewrite/sft/checkpoint-100 bash recipes/deploy.sh   # without merging; on a CPU it is merged first
#   SYSTEM=finance bash recipes/deploy.sh                                # that task's student; SYSTEM=judge the small judge of answers; or a file of yours
#   ROLE=teacher bash recipes/deploy.sh                                  # a teacher of one's own on port 8001, ROLE=judge one on 8002
#   API_KEY=... HOST=0.0.0.0 bash recipes/deploy.sh                      # open to the network: with a key; OPEN=1 in its place for none
# The key is taken from the environment alone: every user of a machine sees the words of a command.
# Then: curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
#         -d '{"model": "query-rewrite", "messages": [{"role": "user", "content": "..."}]}'
# A role is called by its name: OVERTAKE_TEACHER_BASE_URL=http://127.0.0.1:8001/v1 OVERTAKE_TEACHER_MODEL=teacher, the judge likewise.
# Three on one card: give the two on vLLM their share, as in --vllm_gpu_memory_utilization 0.45; PROFILE=1x24g-4bit serves in 4 bits (7B: 8 GB).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A role: the model where MODEL= names none, the port, the name clients use, and how it answers; a client's own numbers win. A student
# answers as its task says, with as many tokens as its training allowed.
answers=()
case ${ROLE:-student} in
  student) ;;
  # DeepSeek recommends 0.6 and 0.95 for R1 and its distilled models; greedy, they repeat themselves.
  teacher) RECIPE_MODEL=deepseek-ai/DeepSeek-R1-Distill-Qwen-7B port=8001 answers=(--temperature 0.6 --top_p 0.95 --max_new_tokens 8192) ;;
  judge) RECIPE_MODEL=Qwen/Qwen2.5-7B-Instruct port=8002 answers=(--temperature 0 --max_new_tokens 512) ;;
  *) die "ROLE=$ROLE is none of: student, teacher, judge" ;;
esac
if ((${#answers[@]})); then hand served "$ROLE"; hand port "$port"; fi
# A chain of thought is longer than what the profiles leave room for; on a CPU nobody waits for one, and small models have no window for it.
on_profile() { if [[ ${ROLE:-} == teacher && $PROFILE != cpu* && ${DEPLOY_FLAGS[*]} == *'--infer_backend vllm'* ]]; then DEPLOY_FLAGS+=(--vllm_max_model_len 12288); fi; }
run_on_profile deploy "${answers[@]}" -- "$@"
