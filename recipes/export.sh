#!/usr/bin/env bash
# Export: a checkpoint becomes a folder of its own, to deploy or to hand on. LoRA is merged into its base model; a full checkpoint is
# copied without the optimiser's states. Runs anywhere with room for the weights in memory (32B: 65 GB) and twice that on disk.
#   bash recipes/export.sh                                                         # of the run written last, the best checkpoint on held-out rows
#   ADAPTER=output/query_rewrite/grpo/checkpoint-50 bash recipes/export.sh
#   SYSTEM=finance bash recipes/export.sh                                          # of another system than query rewriting
#   OUTPUT_DIR=models/rewriter bash recipes/export.sh                              # default: beside the checkpoint, -merged
#   COMPARED=out/eval/summary.json bash recipes/export.sh    # refused where tools/evaluate.py --against shows it worse; default: eval/ beside the run
#   START=SFT METRIC=ndcg@10 bash recipes/export.sh          # than which system of the comparison (SFT), in which metric (any); FORCE=1 overrides
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
launch export "$@"
