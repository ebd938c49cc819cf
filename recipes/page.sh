#!/usr/bin/env bash
# The page to try the tasks on, in a browser on this machine: type a question, see what teacher and students make of it (docs/page.md).
#   bash recipes/page.sh                                             # what lies under output/, and the teacher where one is set
#   bash recipes/page.sh --system SFT=output/query_rewrite/sft/checkpoint-27 --system finance:RL=finance@http://127.0.0.1:8000/v1
#   bash recipes/page.sh --eval output/quickstart/fivedoctors/eval   # held-out questions to choose from
#   bash recipes/page.sh --blind --eval output/query_rewrite/eval --pair SFT GRPO    # which of two answers do people prefer?
#   PORT=7000 bash recipes/page.sh
# Query rewriting wants OVERTAKE_RAG_URL, the judge OVERTAKE_JUDGE_* or OVERTAKE_TEACHER_*. The key of a student: OVERTAKE_STUDENT_API_KEY.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
launch page "$@"
