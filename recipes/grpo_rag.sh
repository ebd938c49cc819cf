#!/usr/bin/env bash
# GRPO: the student takes itself past the teacher, rewarded by what its rewrites retrieve.
# 4 x 80 GB for 32B with LoRA, rollouts by vLLM on the same cards. Not yet run on GPUs; CI runs this file on two CPU cores: rollouts by
# transformers, by vLLM that gets every update, under DeepSpeed ZeRO-2 and ZeRO-3 with two processes, and with a rollout server.
# Needs rl_train.jsonl and rl_val.jsonl from tools/convert.py, the last checkpoint of sft_qwen32b.sh, and the retrieval service
# (OVERTAKE_RAG_URL, or `bash recipes/serve_rag.sh`).
#   bash recipes/grpo_rag.sh
#   SFT_ADAPTER=output/query_rewrite/sft/checkpoint-100 bash recipes/grpo_rag.sh
#   SFT_ADAPTER=none MODEL=Qwen/Qwen3-8B bash recipes/grpo_rag.sh --beta 0.01
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags=(
  # The competition with the teacher lies in [-1, 1] and is what we want; the rules only break ties and stop rambling.
  --reward_funcs rag_competition rewrite_rules --reward_weights 1.0 0.2
  # Eight rewrites of one question are compared with each other; at 0.7 / 0.9 they differ and still read well.
  --num_generations 8 --temperature 0.7 --top_p 0.9
  # The student's limit. The teacher it is held against is the sheet's rewrite, asked for once with 200 (more where it was cut off): a longer
  # rewrite than the student may write only makes the competition harder.
  --max_completion_length 150 --max_length 2048
  # A rewrite needs no thought, and 150 tokens have no room for one: as the task's object says.
  --enable_thinking false
  # Held near the SFT model: retrieval alone would be happy with a heap of keywords.
  --beta 0.04 --scale_rewards group
  --learning_rate 1e-5 --warmup_ratio 0.05
  # No dropout: it would make the trained policy another one than the one that wrote, and than the SFT model in the KL term.
  --lora_rank 16 --lora_alpha 32 --lora_dropout 0 --target_modules all-linear
  # 10 passes over 1000 rows are 80,000 retrievals and, for 0.3 of the groups, 24,000 verdicts, less what the cache answers; early
  # stopping ends most runs sooner. OVERTAKE_BUDGET_HARD ends one that would cost more.
  --num_train_epochs 10
  # 4 cards x 4 x 4 = 64 rewrites, 8 questions, an update. Evaluation needs whole groups of 8 as well.
  --per_device_train_batch_size 4 --gradient_accumulation_steps 4 --per_device_eval_batch_size 8 --dataloader_num_workers 4
  --eval_strategy steps --eval_steps 50 --save_strategy steps --save_steps 50 --save_total_limit 3 --logging_steps 1
  # The checkpoint with the highest held-out reward is kept beside them; five evaluations without a better one end the run.
  --early_stop_interval 5
  # completions.jsonl: what was written and what it earned, to be read by eye.
  --log_completions true
  # Parts, win rate, abstentions, calls, cache hits and cost on the board; alarms in words; trace.jsonl, to be scored again later.
  --callbacks overtake_metrics
  # Where vLLM writes, a token counts by how much likelier the trained model finds it, at most twice. rollout_correction/k3_kl: how far apart
  # both are. Up to 0.0054 is top_p's doing, which vLLM counts in; where it grows beyond that, vLLM samples from old weights (an alarm).
  --rollout_importance_sampling_mode token_truncate
)
run_grpo query_rewrite "${flags[@]}" -- "$@"
