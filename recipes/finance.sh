#!/usr/bin/env bash
# Financial reasoning, all of it: prepare, distil, filter, sft, grpo, evaluate, deploy, ablate. What is done is not done again.
#   PROFILE=cpu bash recipes/finance.sh            # the shipped sample, a tiny student, teacher and judge stood in for; two cores
#   bash recipes/finance.sh                        # on GPUs: DianJin-R1-Data, Qwen2.5-1.5B-Instruct, a teacher and a judge by address
#   bash recipes/finance.sh --from sft             # that stage and all behind it anew
#   bash recipes/finance.sh --data my.xlsx --rows 2000 --no-judge
# Options: --data FILE or hub name (ms::..., hf::...), --rows N drawn by type, --out FOLDER, --no-judge, --from STAGE, --to STAGE, --fresh.
# Teacher: OVERTAKE_TEACHER_BASE_URL, _MODEL, _API_KEY (`ROLE=teacher bash recipes/deploy.sh` serves one here); OVERTAKE_JUDGE_... likewise.
set -euo pipefail
{ # read whole before it runs: the file may change under a run of hours
CHAIN=finance
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"

STAGES=(prepare distil filter sft grpo evaluate deploy ablate)
data='' rows='' out='' judge=1 from='' to=ablate fresh=0
while (($#)); do
  case $1 in
    --data) [[ -n ${2:-} ]] || die "$1 needs a file or a hub name"; data=$2; shift 2 ;;
    --rows) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "$1 needs a number"; rows=$2; shift 2 ;;
    --out) [[ -n ${2:-} ]] || die "$1 needs a folder"; out=$(realpath -m -- "$2"); shift 2 ;;
    --from | --to) stage_option "$@"; shift 2 ;;
    --no-judge) judge=0; shift ;;
    --fresh) fresh=1; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) die "$1 is not known. There are: --data, --rows, --out, --no-judge, --from, --to, --fresh" ;;
  esac
done
# On a CPU without data of one's own: the sample, whose held-out side is its own. Steps for tests: FINANCE_STEPS="base sft grpo".
test_file='' sample=$ROOT/datasets/finance
tiny=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)) && [[ -z $data ]]; then data=$sample/train.jsonl test_file=$sample/test.jsonl; fi
data=${data:-ms::tongyi_dianjin/DianJin-R1-Data}
if [[ -e $data ]]; then data=$(realpath -- "$data"); fi
read -r base_steps sft_steps grpo_steps <<<"${FINANCE_STEPS:-2800 80 300}"

standin=0
if [[ -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  ((tiny)) || die "no teacher: set OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, or serve one (ROLE=teacher bash recipes/deploy.sh)"
  standin=1
fi
claim "${out:-$ROOT/output/finance}" "$data" "$fresh"
enter
export OVERTAKE_CACHE_DIR=${OVERTAKE_CACHE_DIR:-$OUT/cache}

# What each stage leaves; --from takes it away, of that stage and all behind it.
LEAVES=(
  [prepare]=raw [distil]=distilled.jsonl [filter]='data doctor.txt' [sft]='base sft' [grpo]='grpo sft_long' [evaluate]='eval report.html' [deploy]=merged
  [ablate]='grpo_rules ablation'
)
if [[ -n $from ]]; then forget_from "$from"; fi

no_judge=() mode='with a judge'
if ((!judge)); then no_judge=(--no-judge) mode='rules only'; fi
if ((standin)); then
  stage "teacher and judge STAND-IN (no key given; it solves what it was taught by rule, and is no language model)"
  start teacher python -m demo.serve_teacher --finance "$sample"
  export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in
else
  echo "teacher: $OVERTAKE_TEACHER_MODEL at $OVERTAKE_TEACHER_BASE_URL"
fi

# ---------------------------------------------------------------- data

stage "1 prepare: $data -> raw.jsonl"
[[ -f $OUT/raw/raw.jsonl ]] || python tools/prepare_finance.py "$data" "$OUT/raw" ${test_file:+--test-file "$test_file"} ${rows:+--sample "$rows"}
stop_after prepare

stage "2 distil: the teacher solves every problem"
[[ -f $OUT/distilled.jsonl ]] || python tools/generate.py "$OUT/raw/raw.jsonl" "$OUT/distilled.jsonl" --task finance
stop_after distil

stage "3 filter: rules, then the judge ($mode)"
share=(); if [[ -n $test_file ]]; then share=(--test-share 0); fi
[[ -f $OUT/data/filter_stats.json ]] || python tools/filter.py "$OUT/distilled.jsonl" "$OUT/data" "${no_judge[@]}" "${share[@]}"
test_file=${test_file:-$OUT/data/test.jsonl}
stop_after filter

# ---------------------------------------------------------------- training

if ((!judge)); then export RULES_ONLY=1; fi
stage "  doctor: the golds and attacks through the rewards of RL"
resist finance "$OUT/data/rl.jsonl" "${no_judge[@]}"
stage "4 sft (recipes/sft_finance.sh)"
sft_data=$OUT/data/sft.jsonl
sft=() grpo=() tuner=${TUNER:-lora} start_from=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct}
if ((tiny)); then
  # Two busy cores: threads that wait in a spin would take the services' time.
  export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
  [[ -f $OUT/base/config.json ]] || python -m demo.tiny_students.tiny_finance_model "$OUT/base" --sample "$sample" --texts "$OUT/raw/raw.jsonl" --steps "$base_steps"
  start_from=$OUT/base tuner=full
  # A model this small has no room for adapters: all weights are trained. What ms-swift cannot tell from a model of one's own comes first.
  own=(--torch_dtype float32 --bf16 false --model_type qwen3 --template qwen2_5 --split_dataset_ratio 0 --eval_strategy no --save_strategy steps --save_steps 100000 --gradient_checkpointing false)
  sft=("${own[@]}" --per_device_train_batch_size 32 --gradient_accumulation_steps 1 --max_length 512 --learning_rate 1e-3)
  grpo=("${own[@]}" --per_device_train_batch_size 64 --gradient_accumulation_steps 1 --num_generations 8 --temperature 0.7 --max_length 512
    --max_completion_length 72 --learning_rate 3e-4 --lr_scheduler_type constant_with_warmup --beta 0.01 --max_steps "$grpo_steps")
  # SFT is for the form: half of the solutions do, and leave RL the other problems to learn on.
  sft_data+='#215'
fi
[[ -n $(last "$OUT/sft") ]] || quiet sft env MODEL="$start_from" TUNER="$tuner" DATASET="$sft_data" OUTPUT_DIR="$OUT/sft" \
  bash recipes/sft_finance.sh ${sft[@]+"${sft[@]}" --max_steps "$sft_steps"}
curve "$OUT/sft"
stop_after sft

stage "5 grpo (recipes/grpo_finance.sh)"
# grpo_run NAME ENVIRONMENT...: GRPO from the SFT checkpoint.
grpo_run() {
  local run=$1; shift
  [[ -n $(last "$OUT/$run") ]] || quiet "$run" env -u MODEL SFT_ADAPTER="$(last "$OUT/sft")" TUNER="$tuner" DATASET="$OUT/data/rl.jsonl" OUTPUT_DIR="$OUT/$run" "$@" \
    bash recipes/grpo_finance.sh ${grpo[@]+"${grpo[@]}"}
}
grpo_run grpo
curve "$OUT/grpo"
systems=(--system "base=$start_from" --system "SFT=$(last "$OUT/sft")" --system "GRPO=$(last "$OUT/grpo")")
if ((tiny)); then
  stage "  control: the SFT model trained on for as long as GRPO took"
  [[ -n $(last "$OUT/sft_long") ]] || quiet sft_long env MODEL="$(last "$OUT/sft")" TUNER=full DATASET="$sft_data" OUTPUT_DIR="$OUT/sft_long" \
    bash recipes/sft_finance.sh "${sft[@]}" --max_steps "$(python tools/curve.py "$OUT/sft" --steps-to-match "$OUT/grpo")"
  curve "$OUT/sft_long"
  systems+=(--system "SFT-long=$(last "$OUT/sft_long")")
fi
stop_after grpo

# ---------------------------------------------------------------- evaluate, deploy, ablate

stage "6 evaluate: held-out problems by type, paired intervals"
[[ -f $OUT/eval/table.txt ]] || { mkdir -p "$OUT/eval"
  python tools/evaluate.py "$test_file" "$OUT/eval" --task finance "${no_judge[@]}" "${systems[@]}" --against GRPO | tee "$OUT/eval/table.part"
  mv "$OUT/eval/table.part" "$OUT/eval/table.txt"; }
python tools/report.py "$OUT/report.html" --run "GRPO=$OUT/grpo" --eval "$OUT/eval"
stop_after evaluate

stage "7 deploy: merged (recipes/export.sh), served (recipes/deploy.sh), one question"
[[ -d $OUT/merged ]] || quiet export env ADAPTER="$(last "$OUT/grpo")" OUTPUT_DIR="$OUT/merged" bash recipes/export.sh
deploy SYSTEM=finance MODEL="$OUT/merged"
python tools/ask.py --task finance "$(python -c 'import json, sys; row = json.loads(open(sys.argv[1], encoding="utf-8").readline()); print(row.get("question") or row["prompt"])' "$test_file")" --base-url "$URL/v1"
stop_after deploy

stage "8 ablate: base, SFT, SFT + GRPO, and GRPO by rules alone in one table"
rules=()
if ((judge)) && [[ ${OVERTAKE_FINANCE_JUDGE_SHARE:-1} != 0 ]]; then
  grpo_run grpo_rules RULES_ONLY=1
  rules=(--rules-only "$(last "$OUT/grpo_rules")")
else
  echo "the reward of SFT+GRPO asked no judge (OVERTAKE_FINANCE_JUDGE_SHARE is 0): it is the one by rules alone"
fi
[[ -n $(find "$OUT/ablation" -name 'ablation_summary_*.json' 2>/dev/null) ]] ||
  python tools/ablate.py "$test_file" "$OUT/ablation" --task finance "${no_judge[@]}" --base "$start_from" --sft "$(last "$OUT/sft")" --grpo "$(last "$OUT/grpo")" "${rules[@]}"

cat <<END

Everything lies in $OUT:
  raw/ distilled.jsonl data/     problems, the teacher's solutions, what passed both filters
  sft/ grpo/ grpo_rules/         runs with logging.jsonl            merged/     the model to deploy
  eval/ ablation/                tables, answers and details        log/        every step's log
  report.html                    the table, curves and alarms on one page
The teacher here: $OVERTAKE_TEACHER_MODEL. The whole took $SECONDS s.
END
exit
}
