# shellcheck shell=bash disable=SC2034
# No GPU, rollouts by vLLM in the training process: the way of the profiles for one GPU, without vLLM's sleep, which needs a GPU.
# Run where: GRPO in the tests, and its rollout server with NCCL mocked; two CPU cores.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/cpu.sh"
# Compiling costs more than it saves on a small model.
RL_FLAGS+=(--use_vllm true --vllm_mode colocate --vllm_enforce_eager true --vllm_max_model_len 2304)
ROLLOUT_FLAGS=(--torch_dtype "$precision" --vllm_enforce_eager true --vllm_max_model_len 2304)
