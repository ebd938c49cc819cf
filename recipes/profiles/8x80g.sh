# shellcheck shell=bash disable=SC2034
# Eight cards of 80 GB: 32B with LoRA at twice the pace of four, or SFT of all weights with TUNER=full.
# Run where: parsed by ms-swift's own argument classes in the tests; not yet run on GPUs. Its layout runs in cpu-zero3.
# LoRA: as 4x80g.sh, with 1/8 of the model and of LoRA on a card in place of 1/4: 26.4 of 85 in training; two vLLM engines of four cards.
# PPO: with 1/8 of its critic on a card 30.8 of 85.
# SFT with TUNER=full, memory of a card in GB (10^9 bytes) at worst: 2 rows of 2048 tokens.
#   weights, gradients, Adam  32.76e9 x 16 bytes (2 bf16 + 2 bf16 + 4 + 4 + 4) / 8   65.5
#   gathered layers           1e9 weights x 2 bytes (stage3_max_live_parameters)      2.0
#   kept activations          4096 tokens x 64 layers x 5120 x 2 bytes                2.7
#   one layer's own           4096 tokens x (8 x 27648 + 12 x 5120) x 2 bytes         2.3
#   logits                    2 x 150 x 152064 x 12 bytes                             0.5
#   CUDA, fragments                                                  assumed          2.5
#   training: 75.5 of 85
# GRPO of all weights does not fit, and PPO less: 8.2 for the sharded SFT model in the KL term and twice the longer rows make 92. It wants
# multinode.
# shellcheck source=/dev/null
source "$ROOT/recipes/profiles/4x80g.sh"
GPUS=8
RUN_ENV=(NPROC_PER_NODE=8)
# Half the accumulation on twice the cards: still 64 rewrites an update.
RL_FLAGS+=(--gradient_accumulation_steps 2)
