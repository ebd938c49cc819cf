# shellcheck shell=bash disable=SC2034
# Several machines of 8 x 80 GB: NNODES of them train, ZeRO-3 over all of their cards; those in ROLLOUT_HOST sample (`swift rollout`).
# On all of them the same project folder and settings (OVERTAKE_RAG_URL an address that all reach); DATASET, SFT_ADAPTER and OUTPUT_DIR
# on a disk that all see.
#   1. On each rollout machine, first. HOST is its address in a network of your own; ready at "Application startup complete":
#        HOST=10.0.0.9 PROFILE=multinode bash recipes/rollout.sh
#   2. On each training machine, at about the same time:
#        NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 ROLLOUT_HOST=10.0.0.9 PROFILE=multinode bash recipes/grpo_rag.sh   # on 10.0.0.1
#        NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 ROLLOUT_HOST=10.0.0.9 PROFILE=multinode bash recipes/grpo_rag.sh   # on 10.0.0.2
#   3. Look at rollout_correction/k3_kl in the log: here it holds what one update moves, too, and stays about as large; where it grows from
#      step to step, vLLM samples from older weights. Stop rollout.sh by Ctrl-C when all is done.
# A cluster does these steps by itself: recipes/slurm.sbatch and recipes/k8s (docs/scale.md).
# SFT is step 2 with sft_qwen32b.sh, without ROLLOUT_HOST; PPO with ppo_rag.sh. Two rollout machines: ROLLOUT_HOST="10.0.0.9 10.0.0.10".
# Ports: 29500 on machine 0 (MASTER_PORT), 8000 and 51216 on the rollout machines (PORT and GROUP_PORT, in both steps), NCCL's own between
# all. A proxy in the environment must not catch these addresses (NO_PROXY).
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on several machines nor on GPUs. On CPUs the tests run
# a rollout server with its training, NCCL mocked, and a training of two "machines" on one.
# Memory of a training card: `python tools/doctor.py --memory multinode` prints it part by part, with TUNER=full that of all weights; 4.1 GB
# more while 1/16 of the model is gathered to be sent.
# A rollout card: vLLM's 0.9 x 85 = 76.5: weights 65.5 / 4 = 16.4, activations 1.5 (assumed), cache 58.6 = 890 000 tokens of 65536 bytes.
# Network: 65.5 GB from machine 0 to each rollout machine at every update: 3 s at 200 Gb/s, 52 s at 10.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/8x80g.sh"
case $KIND in
  grpo | ppo) needed=(NNODES NODE_RANK MASTER_ADDR ROLLOUT_HOST) ;;
  sft) needed=(NNODES NODE_RANK MASTER_ADDR) ;;
  *) needed=() ;;
esac
for variable in ${needed[@]+"${needed[@]}"}; do
  [[ -n ${!variable:-} ]] || want "PROFILE=multinode wants ${needed[*]} on every training machine; $variable is not set"
done
# A rollout server or a deployment is a machine by itself.
RUN_ENV=()
if [[ -n $KIND ]]; then
  RUN_ENV=(NPROC_PER_NODE=8 "NNODES=${NNODES:-2}" "NODE_RANK=${NODE_RANK:-0}" "MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}"
    "MASTER_PORT=${MASTER_PORT:-29500}")
fi
# The trainer comes from another machine and brings no key: rollout.sh warns of it.
export ROLLOUT_OPEN=${ROLLOUT_OPEN:-1}
for variable in PORT GROUP_PORT; do
  [[ ${!variable:-1} =~ ^[0-9]{1,5}$ ]] || die "$variable=$(printf %q "${!variable}") is no port: set it to a number"
done
read -ra hosts <<<"${ROLLOUT_HOST:-127.0.0.1}"
# 16 cards x 4 x 1 = 64 rewrites an update. A server that still loads its model is waited for.
RL_FLAGS=(--gradient_accumulation_steps 1 --use_vllm true --vllm_mode server --vllm_server_host "${hosts[@]}"
  --vllm_server_port "${hosts[@]/*/${PORT:-8000}}" --vllm_server_group_port "${hosts[@]/*/${GROUP_PORT:-51216}}"
  --vllm_server_timeout 1800 --move_model_batches 16)
# The rollouts of the next step are written while this one is scored and trained, so by weights that are one update old, which the recipe's
# token_truncate weighs. --async_generate false waits for each rollout, as PPO does.
if [[ $KIND == grpo ]]; then RL_FLAGS+=(--async_generate true); fi
ROLLOUT_FLAGS=(--torch_dtype bfloat16 --vllm_tensor_parallel_size 4 --vllm_data_parallel_size 2 --vllm_gpu_memory_utilization 0.9
  --vllm_max_model_len 2304)
