#!/usr/bin/env bash
# The small judge of answers, all of it: generate, SFT, GRPO, evaluate, calibrate, use. What is done is not done again.
#   PROFILE=cpu bash recipes/judge.sh              # the shipped sample, a tiny student, light model and teacher mocked; two cores
#   bash recipes/judge.sh --data questions.jsonl --test test.jsonl --light deepseek-chat     # on a GPU, with a teacher by address
# Options: --data FILE (questions with reference answers), --test FILE (rows with known verdicts; else 100 of DATA are held out), --light MODEL[@BASE_URL], --out FOLDER, --fresh.
# Teacher: OVERTAKE_TEACHER_BASE_URL, _MODEL, _API_KEY. Steps for tests: JUDGE_STEPS="base sft grpo".
set -euo pipefail
{ # read whole before it runs: the file may change under a run of hours
CHAIN=judge
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"
sample=$ROOT/datasets/judge
data='' test='' light='' out='' fresh=0
options --data=file --test=file '--light=a model' --out=folder --fresh=switch -- "$@"
tiny=0 mocked=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)) && [[ -z $data ]]; then data=$sample/questions.jsonl; fi
[[ -n $data ]] || die "no questions: name a file with --data (question, answer), or set PROFILE=cpu for the shipped sample"
test_file=${test:-$sample/test.jsonl}
if [[ -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  ((tiny)) || die "no teacher: set OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY"
  mocked=1
fi
hold_out=()
read -r base_steps sft_steps grpo_steps <<<"${JUDGE_STEPS:-3000 120 150}"
claim "${out:-$ROOT/output/judge}" "$data" "$fresh"
enter
# A user's own questions are measured on some of them, kept out of training.
if [[ -z $test && $data != "$sample"/* ]]; then test_file=$OUT/data/train.test.jsonl hold_out=(--hold-out 100); fi

if ((mocked)); then
  mock_teacher "MOCK light model and teacher (no key given; rules and the sample's own verdicts, no language model)" --judged "$sample"
  light=${light:-overtake-stand-in}
fi

stage "1 generate: answers, hard negatives, reasoned verdicts"
mkdir -p "$OUT/data"
answered "$OUT/data/train.jsonl" python tools/generate.py "$data" "$OUT/data/train.jsonl" --task judge --negatives --balance 1.5 \
  ${hold_out[@]+"${hold_out[@]}"} ${light:+--light "$light"}

stage "  doctor: the teacher's verdicts and attacks through the rewards of RL"
resist judge "$OUT/data/train.jsonl"

rl=grpo rl_stage=grpo tuner=${TUNER:-lora} student=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct} control=''
sft_data=$OUT/data/train.jsonl rl_data=$OUT/data/train.jsonl of_sft=() of_sft_steps=() of_rl=()
if ((tiny)); then
  stage "  student: a tiny Qwen3 that has learnt to compare two texts"
  tiny_student tiny_judge_model --texts "$OUT/data/train.jsonl" --steps "$base_steps"
  own+=(--template qwen2_5 --split_dataset_ratio 0 --gradient_accumulation_steps 1 --max_length 512) control=sft_long
  of_sft=("${own[@]}" --per_device_train_batch_size 32 --learning_rate 1e-3) of_sft_steps=(--max_steps "$sft_steps")
  # At temperature 1 a model this small breaks its tags, and the reward says next to nothing of the verdict. 39 tokens are the longest verdict.
  of_rl=("${own[@]}" --per_device_train_batch_size 64 --num_generations 8 --temperature 0.7 --max_completion_length 48 --learning_rate 3e-4
    --lr_scheduler_type constant_with_warmup --max_steps "$grpo_steps")
  # SFT is for the form: half of the teacher's reasons do, and leave RL the other answers to learn on.
  sft_data+="#$(($(wc -l <"$sft_data") / 2))"
fi
candidates=(--system constant --system substring --system "base=$student")
train_and_compare 2 "$control" table.txt
python tools/report.py "$OUT/report.html" --run "GRPO=$OUT/grpo" --eval "$OUT/eval"
stage "5 calibrate: the trained judge on the held-out verdicts"
[[ -f $OUT/calibration.json ]] ||
  python tools/calibrate.py "$test_file" --judge "$(last "$OUT/grpo")" --no-probes --summary "$OUT/calibration.json"

stage "6 use: served (recipes/deploy.sh), it grades as the judge (tools/judge.py)"
[[ -f $OUT/graded.jsonl ]] || {
  deploy SYSTEM=judge MODEL="$(last "$OUT/grpo")"
  OVERTAKE_JUDGE_BASE_URL=$URL/v1 OVERTAKE_JUDGE_MODEL=judge python tools/judge.py "$test_file" "$OUT/graded.jsonl" --limit 20 || {
    (($? == 1)) || die "the served judge did not grade (above); see $OUT/log/deploy.log"
    echo "not every answer got a verdict that can be read: train for longer (JUDGE_STEPS)"; }; }

cat <<END

Everything lies in $OUT:
  data/train.jsonl               graded answers          sft/ grpo/          runs with logging.jsonl
  eval/ calibration.json         tables and details      graded.jsonl        answers graded by it, served
  report.html                    the table, curves and alarms on one page
  log/                           every step's log
The teacher here: $OVERTAKE_TEACHER_MODEL. The whole took $SECONDS s.
END
exit
}
