#!/usr/bin/env bash
# SFT: the student learns to rewrite queries as the teacher does.
# 4 x 80 GB for 32B with LoRA; full tuning wants 8 x 80 GB. Smaller cards take a smaller model; the profiles count the memory.
# Needs train.jsonl and val.jsonl from tools/convert.py.
#   bash recipes/sft_qwen32b.sh                                     # Qwen2.5-32B-Instruct on 4 x 80 GB
#   MODEL=Qwen/Qwen3-32B bash recipes/sft_qwen32b.sh
#   PROFILE=1x80g MODEL=Qwen/Qwen3-8B bash recipes/sft_qwen32b.sh   # one card
#   TUNER=full bash recipes/sft_qwen32b.sh                          # all weights, 8 x 80 GB
#   bash recipes/sft_qwen32b.sh --num_train_epochs 2                # any flag of `swift sft` wins over what stands here
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# 5e-5 is for LoRA's few weights; moving all of them takes ms-swift's own default for full tuning.
if [[ $TUNER == full ]]; then lr=1e-5; else lr=5e-5; fi

flags=(
  # A rewrite is a habit of style, not new knowledge: rank 16 on every linear layer is enough, scaled by alpha / rank = 2. GRPO goes on
  # with this adapter and its dropout, and there the same weights must give the same probabilities.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  # Some hundreds of rows: three passes, warmed up over the first twentieth.
  --num_train_epochs 3 --learning_rate "$lr" --warmup_ratio 0.05
  # A rewrite needs no thought: as the task's object says. Qwen3's template then closes the think block in every prompt.
  --enable_thinking false
  # 2 x 8 rows a card before each update. Profile, history and question fit into 2048 tokens.
  --per_device_train_batch_size 2 --gradient_accumulation_steps 8 --max_length 2048
  --per_device_eval_batch_size 2 --dataloader_num_workers 4
  # Three checkpoints are kept; evaluation and saving share their rhythm so that each kept one has a loss.
  --eval_strategy steps --eval_steps 100 --save_strategy steps --save_steps 100 --save_total_limit 3 --logging_steps 10
)
run_sft query_rewrite "${flags[@]}" -- "$@"
