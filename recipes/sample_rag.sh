#!/usr/bin/env bash
# Rejection sampling: the student draws eight rewrites of each question; the best one that retrieves better than the question itself
# becomes a row for SFT. Draws on the hardware of deploy.sh (32B: 4 x 80 GB, vLLM); not yet run on GPUs, CI runs it on a CPU.
# Needs rl_train.jsonl from tools/convert.py, a checkpoint, the retrieval service (OVERTAKE_RAG_URL) and, where the teacher's rewrites were
# judged (validate.py --judge), the judge: rows x 8 calls to each.
#   bash recipes/sample_rag.sh                                       # from the last SFT checkpoint
#   SFT_ADAPTER=output/query_rewrite/grpo/checkpoint-50 bash recipes/sample_rag.sh --num_return_sequences 16
#   OUTPUT_DIR=output/pilot bash recipes/sample_rag.sh --num_sampling_batches 1   # some questions first
#   SELECT=1 bash recipes/sample_rag.sh   # and rl_train.selected.jsonl, without the questions whose draws all earn the same: GRPO learns nothing of them
#   BEHIND=1 bash recipes/sample_rag.sh   # each draw measured and kept behind its question: for terms that add to it
# Then: DATASET=output/query_rewrite/sample/train.jsonl VAL_DATASET=output/query_rewrite/data/val.jsonl OUTPUT_DIR=output/query_rewrite/sft2 \
#         bash recipes/sft_qwen32b.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Each question is measured once, not once an epoch, so each is judged; a smaller share pays for less.
export OVERTAKE_JUDGE_SHARE=${OVERTAKE_JUDGE_SHARE:-1}

flags=(
  # As many as GRPO compares. Drawn hotter than its 0.7: here only the best counts, so variety is worth more than a good mean.
  --num_return_sequences 8 --temperature 1.0 --top_p 0.95
  # The student's limit. The teacher it is held against is the sheet's rewrite, asked for once with 200 (more where it was cut off): a longer
  # rewrite than the student may write only makes the competition harder.
  --max_new_tokens 150
  # As in training.
  --enable_thinking false
  # After each batch the draws are on disk; 64 x 8 keep vLLM busy.
  --num_sampling_batch_size 64
)
run_on_profile sample query_rewrite "${flags[@]}" -- "$@"
