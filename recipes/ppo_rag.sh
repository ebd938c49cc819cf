#!/usr/bin/env bash
# PPO: grpo_rag.sh's rows, rewards and metrics, but a critic says what each token was worth, so that a question needs one rewrite only.
# 4 x 80 GB for 32B with LoRA, rollouts by vLLM on the same cards. Not yet run on GPUs; CI runs this file on two CPU cores.
# Needs rl_train.jsonl and rl_val.jsonl from tools/convert.py, the last checkpoint of sft_qwen32b.sh, and the retrieval service
# (OVERTAKE_RAG_URL, or `bash recipes/serve_rag.sh`).
#   bash recipes/ppo_rag.sh
#   OVERTAKE_CRITIC=Qwen/Qwen2.5-3B-Instruct bash recipes/ppo_rag.sh   # else the profile's; '' makes it of the policy's own base
#   OVERTAKE_TARGET_KL=0.05 bash recipes/ppo_rag.sh                    # the KL coefficient moves towards a KL of 0.05 a token
# OVERTAKE_CRITIC_LR is 1e-4, ten times the policy's rate, since the critic begins with nothing; OVERTAKE_ENTROPY, 0.01, keeps it trying.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags=(
  # As in grpo_rag.sh. OVERTAKE_JUDGE_SHARE is here a share of the rows, as no two rewrites are compared.
  --reward_funcs rag_competition rewrite_rules --reward_weights 1.0 0.2
  # One rewrite a question, so that 256 questions are in a round in place of 32.
  --num_generations 1 --temperature 0.7 --top_p 0.9
  --max_completion_length 150 --max_length 2048
  # A rewrite needs no thought, and 150 tokens have no room for one: as the task's object says.
  --enable_thinking false
  # Held near the SFT model: retrieval alone would be happy with a heap of keywords. In PPO this is a part of the reward.
  --kl_coef 0.05
  # A round of 4 x 64 = 256 rewrites is gone through four times: 16 updates.
  --num_mini_batches 4 --num_ppo_epochs 4
  --cliprange 0.2 --cliprange_value 0.2 --vf_coef 0.5 --gamma 0.99 --lam 0.95 --max_grad_norm 0.5
  --learning_rate 1e-5 --warmup_ratio 0.05
  # No dropout: it would make the trained policy another one than the one that wrote, and than the SFT model in the KL term.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  # An eighth of GRPO's retrievals and verdicts a pass: each row is rewritten once, not eight times.
  --num_train_epochs 10
  # 4 cards x 4 x 4 = 64 rewrites, an update.
  --per_device_train_batch_size 4 --gradient_accumulation_steps 4 --per_device_eval_batch_size 8 --dataloader_num_workers 4
  # Four rounds. A checkpoint in the midst of a round would lose the rest of it.
  --eval_strategy steps --eval_steps 64 --save_strategy steps --save_steps 64 --save_total_limit 3 --logging_steps 1
  # The checkpoint with the highest held-out reward is kept beside them; five evaluations without a better one end the run.
  --early_stop_interval 5
  # completions.jsonl: what was written and what it earned, to be read by eye.
  --log_completions true
  # Parts, win rate, abstentions, calls, cache hits and cost on the board; alarms in words; trace.jsonl, to be scored again later.
  --callbacks overtake_metrics
)
run_ppo query_rewrite "${flags[@]}" -- "$@"
