#!/usr/bin/env bash
# Medical answers, all of it: prepare, sft, rl, evaluate, review. What is done is not done again.
#   PROFILE=cpu bash recipes/medical.sh            # the shipped sample, a tiny student, the teacher stood in for; two cores, some minutes
#   bash recipes/medical.sh                        # on GPUs: krisfu/delicate_medical_r1_data, Qwen3-1.7B, a teacher by key or address
#   bash recipes/medical.sh --rl grpo              # in place of PPO
#   bash recipes/medical.sh --data my.xlsx --red-team my_red_team.jsonl --from rl
# Options: --data FILE or hub name, --red-team FILE, --rl ppo|grpo, --out FOLDER, --no-judge (rules alone), --mock (the offline judge), --from STAGE, --to STAGE, --fresh.
# Teacher: DEEPSEEK_API_KEY, or OVERTAKE_TEACHER_BASE_URL, _MODEL and _API_KEY. The tiny student learns form, no medicine.
set -euo pipefail
{ # read whole before it runs: the file may change under a run of hours
CHAIN=medical
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"

STAGES=(prepare sft rl evaluate review)
sample=$ROOT/datasets/medical
data='' red_team=$sample/red_team.jsonl rl=ppo out='' judge=1 mock=0 from='' to=review fresh=0
while (($#)); do
  case $1 in
    --data) [[ -n ${2:-} ]] || die "$1 needs a file or a hub name"; data=$2; shift 2 ;;
    --red-team) [[ -f ${2:-} ]] || die "$1 ${2:-}: no such file"; red_team=$(realpath -- "$2"); shift 2 ;;
    --rl) [[ ${2:-} =~ ^(ppo|grpo)$ ]] || die "$1 ${2:-}: ppo or grpo"; rl=$2; shift 2 ;;
    --out) [[ -n ${2:-} ]] || die "$1 needs a folder"; out=$(realpath -m -- "$2"); shift 2 ;;
    --from | --to) stage_option "$@"; shift 2 ;;
    --no-judge) judge=0; shift ;;
    --mock) mock=1; shift ;;
    --fresh) fresh=1; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) die "$1 is not known. There are: --data, --red-team, --rl, --out, --no-judge, --mock, --from, --to, --fresh" ;;
  esac
done
tiny=0
if [[ ${PROFILE:-} == cpu && -z ${MODEL:-} ]]; then tiny=1; fi
if ((tiny)); then what=${data:-$sample/questions.jsonl}; else what=${data:-krisfu/delicate_medical_r1_data}; fi
if [[ -e $what ]]; then what=$(realpath -- "$what"); fi
# Steps for tests: MEDICAL_STEPS="sft rl".
if [[ $rl == ppo ]]; then steps='300 128'; else steps='300 48'; fi
read -r sft_steps rl_steps <<<"${MEDICAL_STEPS:-$steps}"

standin=$((judge && mock))
if ((judge && !mock)) && [[ -z ${OVERTAKE_TEACHER_BASE_URL:-}${OVERTAKE_JUDGE_BASE_URL:-}${DEEPSEEK_API_KEY:-} ]]; then
  ((tiny)) || die "no teacher: set DEEPSEEK_API_KEY, or OVERTAKE_TEACHER_BASE_URL, OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, or add --mock or --no-judge"
  standin=1
fi
claim "${out:-$ROOT/output/medical}" "$what" "$fresh"
enter
export OVERTAKE_CACHE_DIR=${OVERTAKE_CACHE_DIR:-$OUT/cache}

# What each stage leaves; --from takes it away, of that stage and all behind it. A doctor's verdicts are never taken away.
LEAVES=([prepare]='sample data doctor.txt' [sft]='base sft' [rl]='ppo grpo sft_long_ppo sft_long_grpo' [evaluate]='eval report.html' [review]='')
if [[ -n $from ]]; then forget_from "$from"; fi

no_judge=()
if ((!judge)); then no_judge=(--no-judge); export OVERTAKE_MEDICAL_WEIGHT_TEACHER=0; fi
if ((standin)); then
  stage "teacher STAND-IN (no key given; it goes by the rule book and shared words, and is no doctor and no language model)"
  # It wants a knowledge base for its other tasks.
  start teacher python -m demo.serve_teacher "$ROOT/datasets/query_rewrite/fivedoctors"
  export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in
fi

# ---------------------------------------------------------------- data

stage "1 prepare: $what"
if ((tiny)) && [[ ! -d $OUT/sample ]]; then
  # Chinese rows without their reasoning: what a student of a million weights can say within 150 characters.
  python - "$what" "$red_team" "$OUT/sample" <<'PY'
import json, pathlib, re, sys
what, red_team, out = map(pathlib.Path, sys.argv[1:])
aside = out.with_name("sample.part")
aside.mkdir(exist_ok=True)
for name, file in (("questions", what), ("red_team", red_team)):
    rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
    rows = [{key: value for key, value in row.items() if key != "reasoning"} for row in rows if re.search("[\u4e00-\u9fff]", row["question"])]
    (aside / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
aside.rename(out)
PY
fi
if ((tiny)); then what=$OUT/sample/questions.jsonl red_team=$OUT/sample/red_team.jsonl; fi
[[ -f $OUT/data/DATA_CARD.md ]] || python tools/prepare_medical.py "$what" "$OUT/data" --red-team "$red_team"
stop_after prepare

# ---------------------------------------------------------------- training

stage "  doctor: honest answers and attacks through the rewards of RL"
resist medical "$OUT/data/training_prompts.jsonl" --recipe "${rl}_medical" ${no_judge[@]+"${no_judge[@]}"}

stage "2 sft (recipes/sft_medical.sh)"
sft=() of_rl=() tuner=${TUNER:-lora} base=${MODEL:-}
if ((tiny)); then
  # Two busy cores: threads that wait in a spin would take the services' time.
  export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
  [[ -f $OUT/base/config.json ]] || python -m demo.tiny_students.tiny_medical_model "$OUT/base" --texts "$OUT/data/train.jsonl" "$OUT/data/training_prompts.jsonl"
  # A model this small has no room for adapters: all weights are trained. What ms-swift cannot tell from a model of one's own comes first.
  base=$OUT/base tuner=full
  own=(--torch_dtype float32 --bf16 false --model_type qwen3 --template qwen3 --enable_thinking false --eval_strategy no --save_strategy steps --save_steps 100000
    --gradient_checkpointing false --gradient_accumulation_steps 1 --max_length 512)
  sft=("${own[@]}" --per_device_train_batch_size 16 --learning_rate 2e-3 --max_steps "$sft_steps")
  of_rl=("${own[@]}" --per_device_train_batch_size 32 --temperature 1.0 --max_completion_length 160 --learning_rate 1e-4 --warmup_ratio 0 --max_steps "$rl_steps")
  # 16 rounds at one rate: six at 1e-4, falling to nothing, clipped half of the ratios in the first and then stood still.
  if [[ $rl == ppo ]]; then of_rl+=(--num_ppo_epochs 2 --learning_rate 5e-5 --lr_scheduler_type constant); fi
  export OVERTAKE_CRITIC_LR=${OVERTAKE_CRITIC_LR:-1e-3} OVERTAKE_ENTROPY=${OVERTAKE_ENTROPY:-0}
fi
[[ -n $(last "$OUT/sft") ]] || quiet sft env ${base:+MODEL="$base"} TUNER="$tuner" DATASET="$OUT/data/train.jsonl" OUTPUT_DIR="$OUT/sft" \
  bash recipes/sft_medical.sh ${sft[@]+"${sft[@]}"}
curve "$OUT/sft"
stop_after sft

stage "3 rl (recipes/${rl}_medical.sh): high-risk prompts first, rule book and teacher"
[[ -n $(last "$OUT/$rl") ]] || quiet "$rl" env -u MODEL SFT_ADAPTER="$(last "$OUT/sft")" TUNER="$tuner" DATASET="$OUT/data/training_prompts.jsonl" \
  OUTPUT_DIR="$OUT/$rl" bash "recipes/${rl}_medical.sh" ${of_rl[@]+"${of_rl[@]}"}
curve "$OUT/$rl"

# Else RL might only have gained what more training of any kind gains.
stage "control: the SFT model trained on for as long as ${rl^^} took"
long=$OUT/sft_long_$rl
if [[ -z $(last "$long") ]]; then
  if [[ $tuner == full ]]; then from_sft=(env MODEL="$(last "$OUT/sft")") more=(); else from_sft=(env ${base:+MODEL="$base"}) more=(--adapters "$(last "$OUT/sft")"); fi
  quiet "sft_long_$rl" "${from_sft[@]}" TUNER="$tuner" DATASET="$OUT/data/train.jsonl" OUTPUT_DIR="$long" bash recipes/sft_medical.sh \
    ${sft[@]+"${sft[@]}"} ${more[@]+"${more[@]}"} --max_steps "$(python tools/curve.py "$OUT/sft" --steps-to-match "$OUT/$rl")"
fi
curve "$long"
stop_after rl

# ---------------------------------------------------------------- evaluate, review

stage "4 evaluate: held-out questions and red team, by kind of risk, paired intervals"
if [[ ! -f $OUT/eval/${rl}_table.txt ]]; then
  mkdir -p "$OUT/eval"
  python tools/evaluate.py "$OUT/data/test.jsonl" "$OUT/eval" --task medical --red-team "$OUT/data/red_team.jsonl" ${no_judge[@]+"${no_judge[@]}"} \
    --system "SFT=$(last "$OUT/sft")" --system "SFT-long=$(last "$long")" --system "${rl^^}=$(last "$OUT/$rl")" --against "${rl^^}" | tee "$OUT/eval/table.part"
  mv "$OUT/eval/table.part" "$OUT/eval/${rl}_table.txt"
else
  cat "$OUT/eval/${rl}_table.txt"
fi
stop_after evaluate

stage "5 review: the riskiest answers for a doctor, blind"
[[ -d $OUT/review ]] || python tools/review.py "$OUT/eval" "$OUT/review"
python tools/report.py "$OUT/report.html" --run "${rl^^}=$OUT/$rl" --run "SFT-long=$long" --eval "$OUT/eval"

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
