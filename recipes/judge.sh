#!/usr/bin/env bash
# The small judge of answers, all of it: generate, SFT, GRPO, evaluate, calibrate, use. What is done is not done again.
#   PROFILE=cpu bash recipes/judge.sh              # the shipped sample, a tiny student, light model and teacher stood in for; two cores
#   bash recipes/judge.sh --data questions.jsonl --test test.jsonl --light deepseek-chat     # on a GPU, with a teacher by address
# Options: --data FILE (questions with reference answers), --test FILE (rows with known verdicts), --light MODEL[@BASE_URL], --out FOLDER, --fresh.
# Teacher: OVERTAKE_TEACHER_BASE_URL, _MODEL, _API_KEY. Steps for tests: JUDGE_STEPS="base sft grpo".
set -euo pipefail
{ # read whole before it runs: the file may change under a run of hours
CHAIN=judge
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"
sample=$ROOT/datasets/judge
data='' test_file='' light='' out='' fresh=0
while (($#)); do
  case $1 in
    --data) [[ -f ${2:-} ]] || die "$1 needs a file"; data=$(realpath -- "$2"); shift 2 ;;
    --test) [[ -f ${2:-} ]] || die "$1 needs a file"; test_file=$(realpath -- "$2"); shift 2 ;;
    --light) [[ -n ${2:-} ]] || die "$1 needs a model"; light=$2; shift 2 ;;
    --out) [[ -n ${2:-} ]] || die "$1 needs a folder"; out=$(realpath -m -- "$2"); shift 2 ;;
    --fresh) fresh=1; shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) die "$1 is not known. There are: --data, --test, --light, --out, --fresh" ;;
  esac
done
tiny=0 standin=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)) && [[ -z $data ]]; then data=$sample/questions.jsonl; fi
[[ -n $data ]] || die "no questions: name a file with --data (question, answer), or set PROFILE=cpu for the shipped sample"
test_file=${test_file:-$sample/test.jsonl}
if [[ -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  ((tiny)) || die "no teacher: set OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY"
  standin=1
fi
read -r base_steps sft_steps grpo_steps <<<"${JUDGE_STEPS:-3000 120 150}"
claim "${out:-$ROOT/output/judge}" "$data" "$fresh"
enter
export OVERTAKE_CACHE_DIR=${OVERTAKE_CACHE_DIR:-$OUT/cache}

if ((standin)); then
  stage "light model and teacher STAND-IN (no key given; rules and the sample's own verdicts, no language model)"
  start teacher python -m demo.serve_teacher --judged "$sample"
  export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in
  light=${light:-overtake-stand-in}
fi

stage "1 generate: answers, hard negatives, reasoned verdicts"
[[ -f $OUT/data/train.jsonl ]] || { mkdir -p "$OUT/data"
  python tools/generate.py "$data" "$OUT/data/train.jsonl" --task judge --negatives --balance 1.5 ${light:+--light "$light"}; }

stage "  doctor: the teacher's verdicts and attacks through the rewards of RL"
resist judge "$OUT/data/train.jsonl"

sft_data=$OUT/data/train.jsonl sft=() grpo=() tuner=${TUNER:-lora} start_from=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
if ((tiny)); then
  stage "  student: a tiny Qwen3 that has learnt to compare two texts"
  # Two busy cores: threads that wait in a spin would take the services' time.
  export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
  [[ -f $OUT/base/config.json ]] || python -m demo.tiny_students.tiny_judge_model "$OUT/base" --texts "$OUT/data/train.jsonl" --steps "$base_steps"
  start_from=$OUT/base tuner=full
  # A model this small has no room for adapters. What ms-swift cannot tell from a model of one's own comes first.
  own=(--torch_dtype float32 --bf16 false --model_type qwen3 --template qwen2_5 --split_dataset_ratio 0 --eval_strategy no --save_strategy steps --save_steps 100000 --gradient_checkpointing false)
  sft=("${own[@]}" --per_device_train_batch_size 32 --gradient_accumulation_steps 1 --max_length 512 --learning_rate 1e-3)
  # At temperature 1 a model this small breaks its tags, and the reward says next to nothing of the verdict. 39 tokens are the longest verdict.
  grpo=("${own[@]}" --per_device_train_batch_size 64 --gradient_accumulation_steps 1 --num_generations 8 --temperature 0.7 --max_length 512
    --max_completion_length 48 --learning_rate 3e-4 --lr_scheduler_type constant_with_warmup --max_steps "$grpo_steps")
  # SFT is for the form: half of the teacher's reasons do, and leave RL the other answers to learn on.
  sft_data+="#$(($(wc -l <"$sft_data") / 2))"
fi
stage "2 sft (recipes/sft_judge.sh)"
[[ -n $(last "$OUT/sft") ]] || quiet sft env MODEL="$start_from" TUNER="$tuner" DATASET="$sft_data" OUTPUT_DIR="$OUT/sft" \
  bash recipes/sft_judge.sh ${sft[@]+"${sft[@]}" --max_steps "$sft_steps"}
curve "$OUT/sft"
stage "3 grpo (recipes/grpo_judge.sh)"
[[ -n $(last "$OUT/grpo") ]] || quiet grpo env -u MODEL SFT_ADAPTER="$(last "$OUT/sft")" TUNER="$tuner" DATASET="$OUT/data/train.jsonl" \
  OUTPUT_DIR="$OUT/grpo" bash recipes/grpo_judge.sh ${grpo[@]+"${grpo[@]}"}
curve "$OUT/grpo"

systems=(--system constant --system substring --system "base=$start_from" --system "SFT=$(last "$OUT/sft")" --system "GRPO=$(last "$OUT/grpo")")
if ((tiny)); then
  stage "  control: the SFT model trained on for as long as GRPO took"
  [[ -n $(last "$OUT/sft_long") ]] || quiet sft_long env MODEL="$(last "$OUT/sft")" TUNER=full DATASET="$sft_data" \
    OUTPUT_DIR="$OUT/sft_long" bash recipes/sft_judge.sh "${sft[@]}" --max_steps "$(python tools/curve.py "$OUT/sft" --steps-to-match "$OUT/grpo")"
  curve "$OUT/sft_long"
  systems+=(--system "SFT-long=$(last "$OUT/sft_long")")
fi

stage "4 evaluate: held-out verdicts, paired intervals"
[[ -f $OUT/eval/table.txt ]] || { mkdir -p "$OUT/eval"
  python tools/evaluate.py "$test_file" "$OUT/eval" --task judge "${systems[@]}" --against GRPO | tee "$OUT/eval/table.part"
  mv "$OUT/eval/table.part" "$OUT/eval/table.txt"; }
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
