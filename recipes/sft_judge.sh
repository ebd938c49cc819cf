#!/usr/bin/env bash
# SFT: the small judge learns the form <think>…</think><output>verdict</output>, and no more: 60 steps, then grpo_judge.sh.
# 24 GB for 1.5B with LoRA. Needs train.jsonl from tools/generate.py --task judge (or DATASET= any other rows of overtake/judge).
#   bash recipes/sft_judge.sh
#   bash recipes/sft_judge.sh --max_steps 120                       # where the form does not hold yet
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen2.5-1.5B-Instruct
DATA_FILES=(train.jsonl '') DATA_NAME=overtake/judge DATA_TOOL='tools/generate.py --task judge'

flags=(
  # GRPO goes on with this adapter, so no dropout.
  --lora_rank 16 --lora_alpha 16 --lora_dropout 0 --target_modules all-linear
  # The reason is a part of the verdict, so the prompt leaves it to the model to begin one: as the task's object says.
  --enable_thinking true
  # Longer SFT does not make it judge better: it only says with more confidence what the teacher would have said.
  --max_steps 60 --learning_rate 2e-4 --warmup_steps 5 --weight_decay 0.01
  --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --max_length 2048
  --per_device_eval_batch_size 2 --dataloader_num_workers 4
  --split_dataset_ratio 0.05
  --eval_strategy steps --eval_steps 20 --save_strategy steps --save_steps 20 --save_total_limit 3 --logging_steps 5
)
# 8 verdicts an update on whatever cards (16 on two machines of 8): rows at a time x accumulation x cards. The profile's one row at a time is
# for longer rows of larger models: 2 of 2048 take 14.6 of 24.1 GB, their logits 7.5 of it.
on_profile() {
  local rows=2 cards=$GPUS
  ((cards)) || return 0
  if [[ $PROFILE == multinode ]]; then cards=$((cards * ${NNODES:-2})); fi
  if ((GPU_GB == 16 || cards > 4)); then rows=1; fi
  SFT_FLAGS+=(--per_device_train_batch_size "$rows" --gradient_accumulation_steps $((cards < 8 ? 8 / (rows * cards) : 1)) --per_device_eval_batch_size "$rows")
}
run_sft judge "${flags[@]}" -- "$@"
