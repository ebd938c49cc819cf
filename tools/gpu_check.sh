#!/usr/bin/env bash
# What a machine with one GPU makes of the recipes, in under nine minutes: SFT, GRPO with and without the prompt once, PPO, as one JSON.
#   bash tools/gpu_check.sh --json gpu_check.json      # a model in the shape of Qwen2.5-7B, weights drawn on the card
#   bash tools/gpu_check.sh --profile cpu              # the same parts on a tiny model, without a GPU
#   bash tools/gpu_check.sh --dry-run                  # the commands only
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -x $root/.venv/bin/python && -z ${VIRTUAL_ENV:-} ]]; then
  export PATH="$root/.venv/bin:$PATH"
fi
PYTHONPATH="$root/plugin:$root${PYTHONPATH:+:$PYTHONPATH}" exec python "$root/benchmarks/bench_gpu.py" "$@"
