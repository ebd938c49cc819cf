# shellcheck shell=bash disable=SC2034
# Eight cards of 80 GB: 32B with LoRA at twice the pace of four, or SFT of all weights with TUNER=full.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its layout runs in cpu-zero3.
# Memory: `python tools/doctor.py --memory 8x80g` prints it part by part, with TUNER=full in front that of all weights. GRPO of all weights does
# not fit, and PPO less: 8.2 for the sharded SFT model in the KL term and twice the longer rows make 92. It wants multinode.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/4x80g.sh"
GPUS=8
RUN_ENV=(NPROC_PER_NODE=8)
# Half the accumulation on twice the cards: still 64 rewrites an update.
RL_FLAGS+=(--gradient_accumulation_steps 2)
