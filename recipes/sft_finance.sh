#!/usr/bin/env bash
# SFT: the student learns to write <think>…</think><answer>…</answer> as the teacher does.
# 24 GB for 1.5B with LoRA; PROFILE=1x24g-4bit needs 16 GB. Needs sft.jsonl from tools/filter.py (or DATASET= any other rows of
# overtake/finance, hub names included). Some 500 rows or steps make the form hold.
#   bash recipes/sft_finance.sh
#   PROFILE=1x24g-4bit bash recipes/sft_finance.sh                  # base in 4 bits: NF4, double quantisation
#   PROFILE=1x24g-4bit SHORT=1 bash recipes/sft_finance.sh          # shorter of memory: one row of 1024 tokens at a time
#   MODEL=Qwen/Qwen2.5-7B-Instruct PROFILE=1x80g bash recipes/sft_finance.sh
#   REPORT_TO=wandb bash recipes/sft_finance.sh                     # TensorBoard alone otherwise
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen2.5-1.5B-Instruct
DATA_FILES=(sft.jsonl '') DATA_NAME=overtake/finance DATA_TOOL=tools/filter.py

flags=(
  # The form and a way of working, which rank 16 holds; GRPO goes on with this adapter, so no dropout.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  --num_train_epochs 2 --learning_rate 2e-4 --warmup_ratio 0.05
  --per_device_train_batch_size 2 --gradient_accumulation_steps 8 --max_length 2048 --gradient_checkpointing true
  --per_device_eval_batch_size 2 --dataloader_num_workers 4
  # The thought is a part of the answer, so the prompt leaves it to the model to begin one: as the task's object says.
  --enable_thinking true
  # A fiftieth of the rows tells by its loss when to stop.
  --split_dataset_ratio 0.02
  --eval_strategy steps --eval_steps 50 --save_strategy steps --save_steps 50 --save_total_limit 3 --logging_steps 10
)
if [[ ${SHORT:-0} == 1 ]]; then set -- --per_device_train_batch_size 1 --gradient_accumulation_steps 16 --max_length 1024 "$@"; fi
run_sft finance "${flags[@]}" -- "$@"
