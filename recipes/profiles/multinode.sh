# shellcheck shell=bash disable=SC2034
# Several machines of 8 x 80 GB. Start the same recipe on each of them with NNODES, NODE_RANK (0, 1, ...) and MASTER_ADDR (machine 0)
# set, MASTER_PORT if 29500 is taken, and OUTPUT_DIR on a disk that all of them see.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/8x80g.sh"
for variable in NNODES NODE_RANK MASTER_ADDR; do
  [[ -n ${!variable:-} ]] || want "PROFILE=multinode wants NNODES, NODE_RANK and MASTER_ADDR on every machine; $variable is not set"
done
RUN_ENV+=("NNODES=${NNODES:-2}" "NODE_RANK=${NODE_RANK:-0}" "MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}" "MASTER_PORT=${MASTER_PORT:-29500}")
# Two machines: 16 cards x 4 x 1 = 64 rewrites an update.
GRPO_FLAGS+=(--gradient_accumulation_steps 1)
