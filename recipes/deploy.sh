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
SYSTEM=${SYSTEM:-query_rewrite}
ROLE=${ROLE:-student}
# ROLE: the model where MODEL= names none, the port, the name clients use, and how it answers; a client's own numbers win.
case $ROLE in
  student)
    # Of the task: as many tokens as its training allowed.
    task=$(task_of "$SYSTEM") || exit 2
    { read -r SYSTEM; read -r served; read -r port; read -ra answers; } <<<"$task" ;;
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
if is_adapter "$model"; then
  # ms-swift reads the base from its own args.json; an adapter of PEFT, LLaMA-Factory, TRL or Unsloth has none.
  [[ -f $model/args.json ]] || MODEL='' set_base "$model"
  set_flags --adapters "$model"
else
  set_flags --model "$model"
fi

refuse_busy "$PORT"
set_flags --host "$HOST" --port "$PORT" --served_model_name "$served"
# A client that hangs up ends its generation, which would hold a place to its last token.
set_flags --external_plugins "$ROOT/plugin/register.py"
set_flags "${answers[@]}"
# As the task says, but a checkpoint that was trained otherwise answers as it was trained.
if [[ $ROLE == student ]]; then
  thinking=$(trained_with "$model" enable_thinking) limit=$(trained_with "$model" max_completion_length)
  set_flags ${thinking:+--enable_thinking "$thinking"} ${limit:+--max_new_tokens "$limit"}
fi
set_flags ${DEPLOY_FLAGS[@]+"${DEPLOY_FLAGS[@]}"}
if ! has_flag --adapters; then drop_flags --merge_lora; fi
# A chain of thought is longer than what the profiles leave room for.
if [[ $ROLE == teacher && $(flag --infer_backend) == vllm ]]; then set_flags --vllm_max_model_len 12288; fi
if [[ -n ${INFER:-} ]]; then set_flags --infer_backend "$INFER"; drop_flags --vllm_max_model_len --vllm_tensor_parallel_size --vllm_enforce_eager --merge_lora; fi
set_flags "$@"
for name in ${FLAG_NAMES[@]+"${FLAG_NAMES[@]}"}; do
  [[ $name != --api* ]] || die "$name: every user of this machine would see the key. Set API_KEY= in the environment instead"
done
host=$(flag --host)
if [[ -n ${API_KEY:-} ]]; then
  export API_KEY
  # It reads the key itself; `swift deploy` would be given it as an argument, and would print it.
  LAUNCHER=(python -m overtake.keyed) RUN_ENV+=("PYTHONPATH=$ROOT/plugin${PYTHONPATH:+:$PYTHONPATH}")
elif ! is_loopback "$host" && [[ ${OPEN:-0} != 1 ]]; then
  want "HOST=$host lets other machines in and no key is asked for: set API_KEY=, or OPEN=1 where that is meant"
fi
# ms-swift logs what is asked and answered: nobody else's business.
umask 077
run_swift deploy
