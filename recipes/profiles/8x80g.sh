# shellcheck shell=bash disable=SC2034
# Eight cards of 80 GB: 32B with all weights (TUNER=full, about 70 GB a card), or LoRA at twice the pace of four.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/4x80g.sh"
GPUS=8
RUN_ENV=(NPROC_PER_NODE=8)
# Half the accumulation on twice the cards: still 64 rewrites an update.
GRPO_FLAGS+=(--gradient_accumulation_steps 2)
