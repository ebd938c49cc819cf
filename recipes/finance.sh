#!/usr/bin/env bash
# Financial reasoning, all of it: prepare, distil, filter, sft, grpo, evaluate, deploy, ablate. What is done is not done again.
#   PROFILE=cpu bash recipes/finance.sh            # the shipped sample, a tiny student, teacher and judge mocked; two cores
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
data='' rows='' out='' no_judge=0 from='' to=ablate fresh=0
options '--data=a file or a hub name' --rows=number --out=folder --no-judge=switch --from=stage --to=stage --fresh=switch -- "$@"
# On a CPU without data of one's own: the sample, whose held-out side is its own. Steps for tests: FINANCE_STEPS="base sft grpo".
test_file='' sample=$ROOT/datasets/finance
tiny=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)) && [[ -z $data ]]; then data=$sample/train.jsonl test_file=$sample/test.jsonl; fi
data=${data:-ms::tongyi_dianjin/DianJin-R1-Data}
if [[ -e $data ]]; then data=$(realpath -- "$data"); fi
read -r base_steps sft_steps grpo_steps <<<"${FINANCE_STEPS:-2800 80 300}"

mocked=0
if [[ -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  ((tiny)) || die "no teacher: set OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, or serve one (ROLE=teacher bash recipes/deploy.sh)"
  mocked=1
fi
claim "${out:-$ROOT/output/finance}" "$data" "$fresh"
enter

# What each stage leaves; --from takes it away, of that stage and all behind it.
LEAVES=(
  [prepare]=raw [distil]=distilled.jsonl [filter]='data doctor.txt' [sft]='base sft' [grpo]='grpo sft_long' [evaluate]='eval report.html' [deploy]=merged
  [ablate]='grpo_rules ablation'
)
if [[ -n $from ]]; then forget_from "$from"; fi

judging=() mode='with a judge'
if ((no_judge)); then judging=(--no-judge) mode='rules only'; fi
if ((mocked)); then
  mock_teacher "MOCK teacher and judge (no key given; it solves what it was taught by rule, and is no language model)" --finance "$sample"
else
  echo "teacher: $OVERTAKE_TEACHER_MODEL at $OVERTAKE_TEACHER_BASE_URL"
fi

# ---------------------------------------------------------------- data

stage "1 prepare: $data -> raw.jsonl"
[[ -f $OUT/raw/raw.jsonl ]] || python tools/prepare_finance.py "$data" "$OUT/raw" ${test_file:+--test-file "$test_file"} ${rows:+--sample "$rows"}
stop_after prepare

stage "2 distil: the teacher solves every problem"
answered "$OUT/distilled.jsonl" python tools/generate.py "$OUT/raw/raw.jsonl" "$OUT/distilled.jsonl" --task finance
stop_after distil

stage "3 filter: rules, then the judge ($mode)"
share=(); if [[ -n $test_file ]]; then share=(--test-share 0); fi
[[ -f $OUT/data/filter_stats.json ]] || python tools/filter.py "$OUT/distilled.jsonl" "$OUT/data" "${judging[@]}" "${share[@]}"
test_file=${test_file:-$OUT/data/test.jsonl}
stop_after filter

# ---------------------------------------------------------------- training

if ((no_judge)); then export RULES_ONLY=1; fi
stage "  doctor: the golds and attacks through the rewards of RL"
resist finance "$OUT/data/rl.jsonl" "${judging[@]}"
rl=grpo rl_stage=grpo tuner=${TUNER:-lora} student=${MODEL:-Qwen/Qwen2.5-1.5B-Instruct} control=''
sft_data=$OUT/data/sft.jsonl rl_data=$OUT/data/rl.jsonl of_sft=() of_sft_steps=() of_rl=()
if ((tiny)); then
  tiny_student tiny_finance_model --sample "$sample" --texts "$OUT/raw/raw.jsonl" --steps "$base_steps"
  own+=(--template qwen2_5 --split_dataset_ratio 0 --gradient_accumulation_steps 1 --max_length 512) control=sft_long
  of_sft=("${own[@]}" --per_device_train_batch_size 32 --learning_rate 1e-3) of_sft_steps=(--max_steps "$sft_steps")
  of_rl=("${own[@]}" --per_device_train_batch_size 64 --num_generations 8 --temperature 0.7 --max_completion_length 72 --learning_rate 3e-4
    --lr_scheduler_type constant_with_warmup --beta 0.01 --max_steps "$grpo_steps")
  # SFT is for the form: half of the solutions do, and leave RL the other problems to learn on.
  sft_data+='#215'
fi
candidates=(--system "base=$student")
train_and_compare 4 "$control" table.txt "${judging[@]}"
python tools/report.py "$OUT/report.html" --run "GRPO=$OUT/grpo" --eval "$OUT/eval"
stop_after evaluate

# ---------------------------------------------------------------- deploy, ablate

stage "7 deploy: merged (recipes/export.sh), served (recipes/deploy.sh), one question"
[[ -d $OUT/merged ]] || quiet export env ADAPTER="$(last "$OUT/grpo")" OUTPUT_DIR="$OUT/merged" bash recipes/export.sh
deploy SYSTEM=finance MODEL="$OUT/merged"
python tools/ask.py --task finance "$(python -c 'import json, sys; row = json.loads(open(sys.argv[1], encoding="utf-8").readline()); print(row.get("question") or row["prompt"])' "$test_file")" --base-url "$URL/v1"
stop_after deploy

stage "8 ablate: base, SFT, SFT + GRPO, and GRPO by rules alone in one table"
rules=()
if ((!no_judge)) && [[ ${OVERTAKE_FINANCE_JUDGE_SHARE:-1} != 0 ]]; then
  train_rl grpo_rules RULES_ONLY=1
  rules=(--rules-only "$(last "$OUT/grpo_rules")")
else
  echo "the reward of SFT+GRPO asked no judge (OVERTAKE_FINANCE_JUDGE_SHARE is 0): it is the one by rules alone"
fi
[[ -n $(find "$OUT/ablation" -name 'ablation_summary_*.json' 2>/dev/null) ]] ||
  python tools/ablate.py "$test_file" "$OUT/ablation" --task finance "${judging[@]}" --base "$student" --sft "$(last "$OUT/sft")" --grpo "$(last "$OUT/grpo")" "${rules[@]}"

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
