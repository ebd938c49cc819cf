# shellcheck shell=bash disable=SC2034
# No GPU, two processes under DeepSpeed ZeRO-2, which shards gradients and optimiser states. Each takes half of cpu.sh's batch.
# Run where: SFT (on two machines' worth of processes) and GRPO in the tests; two CPU cores.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/cpu.sh"
# Without cpu.sh's ACCELERATE_USE_CPU: under it accelerate leaves DeepSpeed aside without a word.
RUN_ENV=(CUDA_VISIBLE_DEVICES= VLLM_PLUGINS=overtake_on_cpu NPROC_PER_NODE=2)
# transformers takes bf16 for a GPU's, unless it is told to use the CPU, and then leaves DeepSpeed aside as well.
TRAIN_FLAGS+=(--deepspeed zero2 --torch_dtype float32 --bf16 false --use_cpu false)
SFT_FLAGS=(--per_device_train_batch_size 4 --gradient_accumulation_steps 1)
RL_FLAGS=(--per_device_train_batch_size 4 --gradient_accumulation_steps 1)
