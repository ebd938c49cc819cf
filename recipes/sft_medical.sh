#!/usr/bin/env bash
# SFT: the student learns to answer patients, with its reasoning where the rows have one.
# 16 GB for 1.7B with LoRA, one row at a time, gradient checkpointing (`python tools/doctor.py --memory 1x16g` counts it). Not yet run on GPUs; the
# tests run it on two cores.
# Needs train.jsonl and dev.jsonl from tools/prepare_medical.py; at least 2000 rows for a real run.
#   bash recipes/sft_medical.sh
#   MODEL=Qwen/Qwen3-4B PROFILE=1x24g bash recipes/sft_medical.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen3-1.7B
DATA_FILES=(train.jsonl dev.jsonl) DATA_TOOL=tools/prepare_medical.py

flags=(
  # A way of answering: rank 16 holds it. RL goes on with this adapter, so no dropout.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  --num_train_epochs 3 --learning_rate 1e-4 --warmup_ratio 0.05
  --per_device_train_batch_size 2 --gradient_accumulation_steps 8 --max_length 2048 --gradient_checkpointing true
  --per_device_eval_batch_size 2 --dataloader_num_workers 4
  # The answer comes behind its reasoning, as the task's object says. For rows without any: --enable_thinking false, in SFT and RL alike.
  --enable_thinking true
  --eval_strategy steps --eval_steps 50 --save_strategy steps --save_steps 50 --save_total_limit 3 --logging_steps 10
)
run_sft medical "${flags[@]}" -- "$@"
