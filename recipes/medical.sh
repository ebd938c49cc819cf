#!/usr/bin/env bash
# Medical answers, all of it: prepare, sft, rl, evaluate, review. What is done is not done again.
#   PROFILE=cpu bash recipes/medical.sh            # the shipped sample, a tiny student, the teacher mocked; two cores, some minutes
#   bash recipes/medical.sh                        # on GPUs: krisfu/delicate_medical_r1_data, Qwen3-1.7B, a teacher by key or address
#   bash recipes/medical.sh --rl grpo              # in place of PPO
#   bash recipes/medical.sh --data my.xlsx --red-team my_red_team.jsonl --from rl
#   bash recipes/medical.sh --data my.xlsx --rubrics        # the teacher writes rubrics for each row that has none of its own
# Options: --data FILE or hub name, --red-team FILE, --rl ppo|grpo, --out FOLDER, --rubrics, --no-judge (rules alone), --mock (the offline judge), --from STAGE, --to STAGE, --fresh.
# Teacher: DEEPSEEK_API_KEY, or OVERTAKE_TEACHER_BASE_URL, _MODEL and _API_KEY. The tiny student learns form, no medicine.
set -euo pipefail
{ # read whole before it runs: the file may change under a run of hours
CHAIN=medical
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"

STAGES=(prepare sft rl evaluate review)
sample=$ROOT/datasets/medical
data='' red_team=$sample/red_team.jsonl rl=ppo out='' no_judge=0 mock=0 from='' to=review fresh=0 rubrics=0
options '--data=a file or a hub name' --red-team=file '--rl=ppo|grpo' --out=folder --rubrics=switch --no-judge=switch --mock=switch --from=stage --to=stage \
  --fresh=switch -- "$@"
tiny=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)); then what=${data:-$sample/questions.jsonl}; else what=${data:-krisfu/delicate_medical_r1_data}; fi
if [[ -e $what ]]; then what=$(realpath -- "$what"); elif ((rubrics)); then die "--rubrics: $what is no file. Name one with --data"; fi
# Steps for tests: MEDICAL_STEPS="sft rl".
if [[ $rl == ppo ]]; then steps='300 128'; else steps='300 48'; fi
read -r sft_steps rl_steps <<<"${MEDICAL_STEPS:-$steps}"

mocked=$((!no_judge && mock))
if ((!no_judge && !mock)) && [[ -z ${OVERTAKE_TEACHER_BASE_URL:-}${OVERTAKE_JUDGE_BASE_URL:-}${DEEPSEEK_API_KEY:-} ]]; then
  ((tiny)) || die "no teacher: set DEEPSEEK_API_KEY, or OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, or add --mock or --no-judge"
  mocked=1
fi
claim "${out:-$ROOT/output/medical}" "$what" "$fresh"
enter

# What each stage leaves; --from takes it away, of that stage and all behind it. A doctor's verdicts are never taken away.
LEAVES=([prepare]='sample rubrics.jsonl data doctor.txt' [sft]='base sft' [rl]='ppo grpo sft_long_ppo sft_long_grpo' [evaluate]='eval report.html' [review]='')
if [[ -n $from ]]; then forget_from "$from"; fi

judging=()
if ((no_judge)); then judging=(--no-judge); export OVERTAKE_MEDICAL_WEIGHT_TEACHER=0; fi
if ((mocked)); then
  # It wants a knowledge base for its other tasks.
  mock_teacher "MOCK teacher (no key given; it goes by the rule book and shared words, and is no doctor and no language model)" \
    "$ROOT/datasets/query_rewrite/fivedoctors"
fi

# ---------------------------------------------------------------- data

stage "1 prepare: $what"
if ((tiny)) && [[ ! -d $OUT/sample ]]; then
  # Chinese rows without their reasoning: what a student of a million weights can say within 150 characters.
  python -m demo.tiny_students.medical_sample "$what" "$red_team" "$OUT/sample"
fi
if ((tiny)); then what=$OUT/sample/questions.jsonl red_team=$OUT/sample/red_team.jsonl; fi
if ((rubrics)); then
  answered "$OUT/rubrics.jsonl" python tools/generate.py "$what" "$OUT/rubrics.jsonl" --task medical --rubrics
  what=$OUT/rubrics.jsonl
fi
[[ -f $OUT/data/DATA_CARD.md ]] || python tools/prepare_medical.py "$what" "$OUT/data" --red-team "$red_team"
if ((!no_judge)); then
  # A judge that does not tell a row's reference from another row's answer would be noise that is paid for.
  [[ -f $OUT/data/judge_worth.json ]] || python tools/validate.py "$OUT/data/train.jsonl" "$OUT/data/judge_worth.json" --task medical
  grep -q '"faults": \[\]' "$OUT/data/judge_worth.json" || { export OVERTAKE_MEDICAL_WEIGHT_TEACHER=0; echo "the judge weighs nothing here: R is the rule book's score"; }
fi
stop_after prepare

# ---------------------------------------------------------------- training

stage "  doctor: honest answers and attacks through the rewards of RL"
resist medical "$OUT/data/training_prompts.jsonl" --recipe "${rl}_medical" "${judging[@]}"

tuner=${TUNER:-lora} student=${MODEL:-Qwen/Qwen3-1.7B} rl_stage=rl
sft_data=$OUT/data/train.jsonl rl_data=$OUT/data/training_prompts.jsonl of_sft=() of_sft_steps=() of_rl=()
if ((tiny)); then
  tiny_student tiny_medical_model --texts "$sft_data" "$rl_data"
  own+=(--template qwen3 --enable_thinking false --gradient_accumulation_steps 1 --max_length 512)
  of_sft=("${own[@]}" --per_device_train_batch_size 16 --learning_rate 2e-3) of_sft_steps=(--max_steps "$sft_steps")
  of_rl=("${own[@]}" --per_device_train_batch_size 32 --temperature 1.0 --max_completion_length 160 --learning_rate 1e-4 --warmup_ratio 0 --max_steps "$rl_steps")
  # 16 rounds at one rate: six at 1e-4, falling to nothing, clipped half of the ratios in the first and then stood still.
  if [[ $rl == ppo ]]; then of_rl+=(--num_ppo_epochs 2 --learning_rate 5e-5 --lr_scheduler_type constant); fi
  export OVERTAKE_CRITIC_LR=${OVERTAKE_CRITIC_LR:-1e-3} OVERTAKE_ENTROPY=${OVERTAKE_ENTROPY:-0}
fi
# The held-out questions by kind of risk, and the red team.
test_file=$OUT/data/test.jsonl candidates=() long=sft_long_$rl
train_and_compare 2 "$long" "${rl}_table.txt" --red-team "$OUT/data/red_team.jsonl" "${judging[@]}"
stop_after evaluate

stage "5 review: the riskiest answers for a doctor, blind"
[[ -d $OUT/review ]] || python tools/review.py "$OUT/eval" "$OUT/review"
python tools/report.py "$OUT/report.html" --run "${rl^^}=$OUT/$rl" --run "SFT-long=$OUT/$long" --eval "$OUT/eval"

cat <<END

Everything lies in $OUT:
  data/                          DATA_CARD.md, training files, the red team          sft/ $rl/ sft_long_$rl/   runs with logging.jsonl
  eval/                          ${rl}_table.txt, answers and details                log/        every step's log
  report.html                    the table, curves and alarms on one page
  review/                        review.xlsx and review.html for a doctor; then: python tools/review.py --read $OUT/review/review.xlsx
The whole took $SECONDS s.
END
exit
}
