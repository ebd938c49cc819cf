#!/usr/bin/env bash
# GRPO: the student learns to be right, rewarded for the form of its answer and for its accuracy.
# 24 GB for 1.5B with LoRA; PROFILE=1x24g-4bit needs 16 GB. Needs rl.jsonl from tools/filter.py and the last checkpoint of
# sft_finance.sh. The questions answered in words are judged (OVERTAKE_JUDGE_..., or `ROLE=judge bash recipes/deploy.sh`), of them the share
# OVERTAKE_FINANCE_JUDGE_SHARE (1); RULES_ONLY=1 asks nobody, whatever is set, and goes by keywords.
#   bash recipes/grpo_finance.sh
#   RULES_ONLY=1 bash recipes/grpo_finance.sh
#   RULES_ONLY=1 PROFILE=1x24g-4bit SHORT=1 bash recipes/grpo_finance.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen2.5-1.5B-Instruct
DATA_FILES=(rl.jsonl '') DATA_NAME=overtake/finance DATA_TOOL=tools/filter.py
if [[ ${RULES_ONLY:-0} == 1 ]]; then export OVERTAKE_FINANCE_JUDGE_SHARE=0; fi

flags=(
  # The form is learnt already and only must not be lost; being right is what RL is for.
  --reward_funcs answer_format finance_accuracy --reward_weights 0.3 0.7
  # Nothing is cut off the distribution but by the temperature, so that what was sampled is what is trained.
  --num_generations 4 --temperature 0.7 --top_p 1.0
  # Thought and answer; the question has as much, statements with their tables included. Together the 2048 of SFT.
  --max_completion_length 1024 --max_length 1024
  # The thought is a part of the answer, so the prompt leaves it to the model to begin one: as the task's object says.
  --enable_thinking true
  --beta 0.05 --scale_rewards group
  --learning_rate 1e-5 --warmup_ratio 0.05
  # No dropout: it would make the trained policy another one than the one that wrote, and than the SFT model in the KL term.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  --num_train_epochs 2 --gradient_checkpointing true
  --per_device_train_batch_size 4 --gradient_accumulation_steps 4 --per_device_eval_batch_size 8 --dataloader_num_workers 4
  --split_dataset_ratio 0.02
  --eval_strategy steps --eval_steps 50 --save_strategy steps --save_steps 50 --save_total_limit 3 --logging_steps 1
  # The checkpoint with the highest held-out reward is kept beside them; five evaluations without a better one end the run.
  --early_stop_interval 5
  --log_completions true
  # Parts, abstentions, calls and cost on the board; alarms in words; trace.jsonl, to be scored again later.
  --callbacks overtake_metrics
  # Where vLLM writes, as in grpo_rag.sh.
  --rollout_importance_sampling_mode token_truncate
)
if [[ ${SHORT:-0} == 1 ]]; then set -- --per_device_train_batch_size 1 --gradient_accumulation_steps 64 --max_length 512 --max_completion_length 512 "$@"; fi
run_grpo finance "${flags[@]}" -- "$@"
