#!/usr/bin/env bash
# Rollout server: vLLM on a machine of its own writes the rewrites for grpo_rag.sh, which sends it the weights after every update.
# Start it on every rollout machine before the training (profiles/multinode.sh has both), with the training's SFT_ADAPTER or MODEL and, where that is not
# query rewriting, its --enable_thinking.
#   HOST=10.0.0.9 PROFILE=multinode bash recipes/rollout.sh      # HOST: this machine's address in a network of your own
# Whoever reaches the port can overwrite the weights, and ms-swift's trainer sends no key: an address that others reach wants ROLLOUT_OPEN=1,
# which PROFILE=multinode sets.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# The server writes the prompts, as in grpo_rag.sh.
run_on_profile rollout query_rewrite --enable_thinking false -- "$@"
