#!/usr/bin/env bash
# GRPO: the small judge learns to be right, rewarded for the form of its verdict and for the verdict; nobody is asked.
# 24 GB for 1.5B with LoRA. Needs train.jsonl from tools/generate.py --task judge (or DATASET= any other rows of overtake/judge with a
# verdict) and the last checkpoint of sft_judge.sh.
#   bash recipes/grpo_judge.sh
#   GENERATIONS=32 bash recipes/grpo_judge.sh                       # compared with 32 verdicts on the same answer; 16 otherwise
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
RECIPE_MODEL=Qwen/Qwen2.5-1.5B-Instruct
DATA_FILES=(train.jsonl '') DATA_NAME=overtake/judge DATA_TOOL='tools/generate.py --task judge'
GENERATIONS=${GENERATIONS:-16}
[[ $GENERATIONS =~ ^[1-9][0-9]*$ ]] || die "GENERATIONS=$GENERATIONS: give a number, 16 or 32"

flags=(
  # The form is learnt already and only must not be lost; being right is what RL is for.
  --reward_funcs judge_format judge_verdict --reward_weights 0.2 0.8
  --num_generations "$GENERATIONS" --temperature 1.0 --top_p 1.0
  # Half of the 2048 for the verdict, half for the prompt.
  --max_completion_length 1024 --max_length 1024
  # The reason is a part of the verdict, so the prompt leaves it to the model to begin one: as the task's object says.
  --enable_thinking true
  --beta 0.01 --scale_rewards group
  --learning_rate 3e-5 --adam_beta1 0.9 --adam_beta2 0.999 --weight_decay 0.1 --warmup_ratio 0.1 --max_grad_norm 0.5
  # No dropout: it would make the trained policy another one than the one that wrote, and than the SFT model in the KL term.
  --lora_rank 16 --lora_alpha 16 --lora_dropout 0 --target_modules all-linear
  --num_train_epochs 3
  --per_device_train_batch_size 16 --gradient_accumulation_steps 8 --per_device_eval_batch_size "$GENERATIONS" --dataloader_num_workers 4
  # For a card that only samples. Where one card trains too its profile sets less: beside the policy 0.9 of 24.1 GB does not fit.
  --vllm_gpu_memory_utilization 0.9
  --split_dataset_ratio 0.05
  --eval_strategy steps --eval_steps 20 --save_strategy steps --save_steps 20 --save_total_limit 3 --logging_steps 1
  # The checkpoint with the highest held-out reward is kept beside them; five evaluations without a better one end the run.
  --early_stop_interval 5
  --log_completions true
  # Parts, abstentions and what the judge calls correct on the board; alarms in words; trace.jsonl, to be scored again later.
  --callbacks overtake_metrics
  # Where vLLM writes, as in grpo_rag.sh.
  --rollout_importance_sampling_mode token_truncate
)
# The profile's 8 rows are half a group.
if [[ ${PROFILE:-} == cpu* ]]; then set -- --per_device_train_batch_size "$GENERATIONS" "$@"; fi
# 128 verdicts an update on whatever cards: rows at a time x accumulation x cards. The logits of 16 rows of 1024 tokens alone are 30 GB; on
# 24 GB 4 rows make 15.7 of 24.1 in all, on 16 GB 2 rows 8 GB of logits less.
on_profile() {
  local rows=16 cards=$GPUS
  if [[ $PROFILE == multinode ]]; then cards=$((cards * ${NNODES:-2})); fi
  case $GPU_GB in 24) rows=4 ;; 16) rows=2 ;; esac
  if [[ $PROFILE == *4bit ]]; then rows=1; fi
  if ((rows * cards > 128)); then rows=$((128 / cards)); fi
  if ((cards)); then RL_FLAGS+=(--per_device_train_batch_size "$rows" --gradient_accumulation_steps $((128 / (rows * cards)))); fi
  # A whole group, also where the profile has less.
  RL_FLAGS+=(--per_device_eval_batch_size "$GENERATIONS")
}
# Not set is torch.compile, which no GPU has shown to work here beside LoRA, checkpointing and vLLM: try --torch_compile true behind.
run_grpo judge "${flags[@]}" -- "$@"
