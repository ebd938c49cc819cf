#!/usr/bin/env bash
# GRPO: as ppo_medical.sh, without a critic: eight answers to a question are compared with each other.
# 16 GB for 1.7B with LoRA, with gradient checkpointing (`python tools/doctor.py --memory 1x16g` counts it). Not yet run on GPUs; the tests run it on two cores.
# Needs what ppo_medical.sh needs. The teacher scores every answer: 2000 rows x 8 are 16,000 verdicts, some 11 USD by deepseek-chat (0.0007 each);
# OVERTAKE_MEDICAL_JUDGE_SHARE=0.3 has it score a third of the questions, the others then go by the rules alone.
#   bash recipes/grpo_medical.sh
#   OVERTAKE_MEDICAL_WEIGHT_TEACHER=0 bash recipes/grpo_medical.sh   # by the rule book alone
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen3-1.7B
DATA_FILES=(training_prompts.jsonl dev.jsonl) DATA_TOOL=tools/prepare_medical.py

flags=(
  # No answer_format beside it: that wants an answer tag, and here the book's own rule looks after the form.
  --reward_funcs medical_answer --reward_weights 1.0
  # The file stands high-risk first, so that safety is learnt while the policy is still near its start.
  --dataset_shuffle false
  --num_generations 8 --temperature 0.9 --top_p 1.0
  # The book gives full points up to 800 characters, which 768 tokens hold.
  --max_completion_length 768 --max_length 1024
  # The answer comes behind its reasoning, as the task's object says. For rows without any: --enable_thinking false, in SFT and RL alike.
  --enable_thinking true
  # Held near the SFT model: the rules see wording, not truth.
  --beta 0.05 --scale_rewards group
  --learning_rate 1e-5 --warmup_ratio 0.05
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  --num_train_epochs 1 --gradient_checkpointing true
  --per_device_train_batch_size 4 --gradient_accumulation_steps 4 --per_device_eval_batch_size 8 --dataloader_num_workers 4
  --eval_strategy steps --eval_steps 50 --save_strategy steps --save_steps 50 --save_total_limit 3 --logging_steps 1
  --early_stop_interval 5
  --log_completions true
  --callbacks overtake_metrics
  # Where vLLM writes, as in grpo_rag.sh.
  --rollout_importance_sampling_mode token_truncate
)
run_grpo medical "${flags[@]}" -- "$@"
