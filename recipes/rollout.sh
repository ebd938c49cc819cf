#!/usr/bin/env bash
# Rollout server: vLLM on a machine of its own writes the rewrites for grpo_rag.sh, which sends it the weights after every update.
# Start it on every rollout machine before the training (profiles/multinode.sh has both), with the training's SFT_ADAPTER or MODEL and, where that is not
# query rewriting, its --enable_thinking.
#   HOST=10.0.0.9 PROFILE=multinode bash recipes/rollout.sh      # HOST: this machine's address in a network of your own
# Whoever reaches the port can overwrite the weights, and ms-swift's trainer sends no key: an address that others reach wants ROLLOUT_OPEN=1,
# which PROFILE=multinode sets.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_profile
use_swift
((${#ROLLOUT_FLAGS[@]})) || die "PROFILE=$PROFILE has no rollout server: its vLLM shares the training's cards. Set PROFILE=multinode"

# The adapter comes with the first weights, merged into them.
set_start query_rewrite
drop_flags --adapters --ref_adapters --check_model

HOST=${HOST:-127.0.0.1}
PORT=${PORT:-8000}
refuse_busy "$PORT"
# Where the weights will arrive. With this port taken ms-swift samples from the old weights and tells only its log.
refuse_busy "${GROUP_PORT:-51216}" "Is another rollout server running here? Else set GROUP_PORT= to another, for the training too"
# The server writes the prompts, as in grpo_rag.sh.
set_flags --host "$HOST" --port "$PORT" --enable_thinking false "${ROLLOUT_FLAGS[@]}" "$@"
host=$(flag --host)
if ! is_loopback "$host"; then
  [[ ${ROLLOUT_OPEN:-0} == 1 ]] || want "HOST=$host lets other machines in, and ms-swift's trainer sends no key: set ROLLOUT_OPEN=1 where only the training machines reach it"
  note "warning: whoever reaches $host can overwrite the weights through port $(flag --port) (ROLLOUT_OPEN=1): let only the training machines through"
fi
run_swift rollout
