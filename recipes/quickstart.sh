#!/usr/bin/env bash
# Quickstart: the whole of query rewriting on this machine, embedded parts, no key, no GPU. Sets up its own environment first.
# Two cores, 4 GB of memory: some 10 minutes after the installation (STARD: 20; 5 more with --rl both). Run it again and what is done is not done again.
#   bash recipes/quickstart.sh                                  # the shipped tenant fivedoctors
#   bash recipes/quickstart.sh --tenant chengla
#   bash recipes/quickstart.sh --corpus FOLDER                  # any BEIR folder: corpus.jsonl, queries.jsonl, qrels.tsv
#   bash recipes/quickstart.sh --rl both                        # PPO as well as GRPO in the table; --rl ppo: in its place
#   bash recipes/quickstart.sh --fresh                          # forget what an earlier run did
#   bash recipes/quickstart.sh --model FOLDER_OR_HUB            # a pretrained student with adapters; itself, served by vLLM, as teacher and judge
#   bash recipes/quickstart.sh --model models/smol --corpus datasets/clinic --teacher-model Qwen/Qwen2.5-3B-Instruct --minutes 60
# With --model: at most --minutes (180), by fewer questions and steps; a run that was interrupted goes on, inside RL as well.
# The chain: sheet -> generate -> validate -> convert -> SFT -> GRPO or PPO -> export -> evaluate -> deploy -> one real request.
# The teacher is a mock (demo/mock_teacher): set OVERTAKE_TEACHER_BASE_URL, _MODEL and _API_KEY for a real one.
set -euo pipefail
{ # read whole before it runs: the file may change under a run of half an hour
CHAIN=quickstart
source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"
tenant=fivedoctors corpus='' fresh=0 out='' rl=grpo model='' teacher_model='' minutes=180 least_minutes=30 draw=() split=() own_teacher=
while (($#)); do
  case $1 in
    --tenant) [[ -n ${2:-} ]] || die "$1 needs a name"; tenant=$2; shift 2 ;;
    --corpus) [[ -n ${2:-} ]] || die "$1 needs a folder"; corpus=$(realpath -m -- "$2"); shift 2 ;;
    --out) [[ -n ${2:-} ]] || die "$1 needs a folder"; out=$(realpath -m -- "$2"); shift 2 ;;
    --rl) [[ ${2:-} =~ ^(grpo|ppo|both)$ ]] || die "$1 ${2:-}: grpo, ppo or both"; rl=$2; shift 2 ;;
    --fresh) fresh=1; shift ;;
    --model | --teacher-model) [[ -n ${2:-} ]] || die "$1 needs a folder or a hub's name"; name=${1#--}; printf -v "${name//-/_}" %s "$2"; shift 2 ;;
    --minutes) [[ ${2:-} =~ ^[0-9]{1,5}$ ]] || die "$1 ${2:-}: a number of minutes"; minutes=$((10#$2)); shift 2 ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit ;;
    *) die "$1 is not known. There are: --tenant NAME, --corpus FOLDER, --out FOLDER, --rl grpo|ppo|both, --model FOLDER_OR_HUB, --teacher-model FOLDER_OR_HUB, --minutes N, --fresh" ;;
  esac
done
if [[ -n $corpus ]]; then
  [[ -f $corpus/corpus.jsonl && -f $corpus/queries.jsonl ]] || die "--corpus $corpus: no corpus.jsonl and queries.jsonl there. Name a BEIR folder"
  [[ -f $corpus/qrels.tsv || -f $corpus/qrels/train.tsv ]] || die "--corpus $corpus: neither qrels.tsv nor qrels/train.tsv there, so nothing tells what is right"
  name=$(basename "$corpus") tenant=default
  # Where users and documents share words, a rewrite keeps most of the question's: copying takes a small model longer to learn.
  # Every question is a topic of its own there: seen once each, their gradients are noise; 128 of them, ten times each, are not.
  base=(--read-words --layers 3 --steps 1200) sft_steps=200 grpo_steps=160 grpo_rate=3e-4 rl_rows=#128
else
  corpus=$ROOT/datasets/query_rewrite/$tenant
  [[ $tenant =~ ^[A-Za-z0-9_-]+$ && -f $corpus/corpus.jsonl ]] || die "--tenant $tenant is not shipped. There are: $(cd "$ROOT/datasets/query_rewrite" && echo */ | tr -d /)"
  name=$tenant
  base=(--layers 2 --steps 300) sft_steps=200 grpo_steps=150 grpo_rate=1e-3 rl_rows=
fi
# check_model NAME: a folder becomes absolute; what cannot be trained or served here is refused before anything is fetched or started.
check_model() {
  if [[ -d $1 ]]; then
    CHECKED=$(realpath -m -- "$1")
    PYTHONPATH=$ROOT/plugin python3 -m overtake.model_family "$CHECKED" "${out:-$ROOT/output}" >/dev/null || exit 2
  else
    [[ $1 =~ ^[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9._-]+$ ]] || die "$1 is no folder and no name on a hub (owner/name)"
    CHECKED=$1
  fi
}
if [[ -n $model ]]; then
  [[ $rl == grpo ]] || die "--rl $rl with --model: GRPO only; a critic of its size would take as long again"
  ((minutes >= least_minutes)) || die "--minutes $minutes: at least $least_minutes, or nothing would be learnt"
  check_model "$model"; model=$CHECKED
  if [[ -n $teacher_model ]]; then check_model "$teacher_model"; teacher_model=$CHECKED; fi
  teacher_model=${teacher_model:-$model} name=$name-$(basename "$model")
  sft_steps=$((minutes / 3 < 60 ? minutes / 3 : 60)) grpo_steps=$((minutes / 4 < 45 ? minutes / 4 : 45)) grpo_rate=1e-4 draw=(--keep $((minutes * 2)) "$minutes")
  # A pretrained model that does not know the user's documents rarely puts the right one in the first three: its rank is what there is to learn from.
  export OVERTAKE_GOLD_NDCG=${OVERTAKE_GOLD_NDCG:-1} OVERTAKE_RAG_TOP_K=${OVERTAKE_RAG_TOP_K:-10}
  split=(--split 0.9 0 0.1)  # no run here validates, and of a small teacher's rewrites few are worth learning
elif [[ -n $teacher_model ]]; then die "--teacher-model is for --model: name the student too"
fi
claim "${out:-$ROOT/output/quickstart/$name}" "$corpus${model:+ with $model}" "$fresh"
mkdir -p "$OUT/eval"
enter

# ---------------------------------------------------------------- services

# A folder with one qrels.tsv gets a held-out side of its own; one that was published with qrels/test.tsv keeps it.
kb=$OUT/$tenant
stage "knowledge base and services"
[[ -d $kb ]] || python tools/hold_out.py "$corpus" "$kb" --share 0.2 "${draw[@]}"
start rag python tools/serve_rag.py "$tenant=$kb"
export OVERTAKE_RAG_URL=$URL
echo "RAG service:      $URL  (log/rag.log)"
if [[ -n $model && -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  # Its rewrites and verdicts are kept: once all are there nobody is asked again but the judge of RL.
  deploy PROFILE=cpu INFER= ROLE=teacher MODEL="$teacher_model"
  own_teacher=${services[-1]}
  # On a CPU ten answers at once take their time, and are worth waiting for.
  export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=teacher OVERTAKE_TEACHER_TIMEOUT=${OVERTAKE_TEACHER_TIMEOUT:-300}
  echo "teacher:          $teacher_model, served at $URL  (log/deploy.log); the judge is the same model"
elif [[ -z ${OVERTAKE_TEACHER_BASE_URL:-} ]]; then
  start teacher python -m demo.serve_teacher "$tenant=$kb"
  export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in
  echo "MOCK teacher: $URL  (no key given; its rewrites come from a lexicon and counts, not from a language model)"
else
  echo "teacher:          $OVERTAKE_TEACHER_MODEL at $OVERTAKE_TEACHER_BASE_URL"
fi
export OVERTAKE_CACHE_DIR=$OUT/cache
# For the one request at the end: the embedded reranker sees the question only, and would cut off what only the rewrite can find.
export OVERTAKE_RAG_SCORE_THRESHOLD=0

# ---------------------------------------------------------------- data

sheet=$OUT/questions.xlsx
stage "sheet -> teacher's rewrites -> live retrieval -> training files"
# With --model the sheet is what was drawn of the questions; a tenant's own sheet holds them all.
if [[ -n $model ]]; then sheet=$kb/queries.jsonl; elif [[ ! -f $sheet ]]; then
  if [[ -f $corpus/questions.xlsx ]]; then cp "$corpus/questions.xlsx" "$sheet"; else sheet=$kb/queries.jsonl; fi
fi
answered "$OUT/teacher.xlsx" python tools/generate.py "$sheet" "$OUT/teacher.xlsx" --tenant "$tenant"
answered "$OUT/validated.xlsx" python tools/validate.py "$OUT/teacher.xlsx" "$OUT/validated.xlsx" --qrels "$kb" --judge
[[ -f $OUT/data/convert_stats.json ]] || python tools/convert.py "$OUT/validated.xlsx" "$OUT/data" --qrels "$kb" --require-gain "${split[@]}"

# A worthless judge was left out, in words that stand above.
judged=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["judged"])' "$OUT/data/convert_stats.json")
judge=(); if ((judged)); then judge=(--judge); else echo "no judge: its verdicts were worth nothing, and RL goes by retrieval alone"; fi
# The teacher of one's own has nothing more to say then, and the trainings want its memory.
if [[ -n $own_teacher ]] && ! ((judged)); then kill -TERM -- "-$own_teacher"; fi

# ---------------------------------------------------------------- doctor

# What is rewarded is learnt: a reward that pays an attack is found here, not after the training.
stage "doctor: the teacher's rewrites and attacks through the rewards of RL"
resist query_rewrite "$OUT/data/rl_train.jsonl"

# ---------------------------------------------------------------- training

# Two busy cores: threads that wait in a spin would take the services' time.
export PROFILE=cpu OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
# What ms-swift cannot tell from a model of one's own.
systems=()
tiny=(--torch_dtype float32 --bf16 false --model_type qwen3 --template qwen3 --truncation_strategy left)
# Its rows are of one length already: sorted by it, an update would see one kind of question.
tuner=full student=$OUT/base sft_rate=1e-3 batch=(--per_device_train_batch_size 32 --group_by_length false) saving=100000

if [[ -n $model ]]; then
  # Adapters on a student that can read already; the family is read from its folder, and an interrupted run goes on from the last save.
  tiny=(--truncation_strategy left) tuner=lora student=$model sft_rate=2e-4 batch=(--per_device_train_batch_size 8) saving=5
  # Three times through the rows at most: a small teacher leaves a dozen, and more of them would be learnt by heart.
  rows=$(wc -l <"$OUT/data/train.jsonl") most=$((rows * 3 / 8 + 1)) sft_steps=$((sft_steps < most ? sft_steps : most))
else
stage "student: a tiny Qwen3 with a tokenizer of its own, pre-trained on the documents"
[[ -f $OUT/base/config.json ]] || python -m demo.tiny_students.tiny_model "$OUT/base" --corpus "$kb" --tenant "$tenant" --texts "$OUT/data/train.jsonl" "${base[@]}"
fi
# going_on FOLDER STEPS: whether a run is still to be done; one that was interrupted goes on by RESUME=1.
going_on() {
  local at; at=$(last "$1")
  [[ -z $at || ( -n $model && ${at##*-} -lt $2 ) ]]
}

# All weights are trained: a model this small has no room for adapters. Only GRPO goes on with LoRA, which `export` then merges.
sft=("${batch[@]}" --gradient_accumulation_steps 1 --max_length 512 --eval_strategy no --save_strategy steps --save_steps "$saving" --logging_steps 10)
stage "SFT (recipes/sft_qwen32b.sh)"
! going_on "$OUT/sft" "$sft_steps" || quiet sft env RESUME=1 MODEL="$student" TUNER="$tuner" DATASET="$OUT/data/train.jsonl" OUTPUT_DIR="$OUT/sft" \
  bash recipes/sft_qwen32b.sh "${tiny[@]}" "${sft[@]}" --learning_rate "$sft_rate" --max_steps "$sft_steps"
curve "$OUT/sft"

# The last of them is compared with all others, and deployed.
case $rl in both) algorithms=(PPO GRPO) ;; *) algorithms=("${rl^^}") ;; esac
of_rl=(--per_device_train_batch_size 64 --gradient_accumulation_steps 1 --max_length 512 --max_completion_length 24 --temperature 1.0 --top_p 1.0
  --eval_strategy no --save_strategy steps --save_steps 100000 --logging_steps 1)

# shellcheck disable=SC2317  # called by its algorithm
train_GRPO() {
  if [[ -n $model ]]; then
    # Without a KL term: so few steps do not run away, and the reference would cost a quarter of each.
    quiet grpo env RESUME=1 PROFILE=cpu-vllm SFT_ADAPTER="$(last "$OUT/sft")" DATASET="$OUT/data/rl_train.jsonl" OUTPUT_DIR="$OUT/grpo" \
      bash recipes/grpo_rag.sh "${tiny[@]}" --per_device_train_batch_size 32 --gradient_accumulation_steps 1 --max_length 512 --max_completion_length 32 \
      --temperature 1.0 --top_p 1.0 --vllm_max_model_len 1024 --eval_strategy no --save_strategy steps --save_steps "$saving" --logging_steps 1 \
      --learning_rate "$grpo_rate" --beta 0 --warmup_ratio 0.02 --max_steps "$grpo_steps"
    return
  fi
  quiet grpo env SFT_ADAPTER="$(last "$OUT/sft")" TUNER=lora DATASET="$OUT/data/rl_train.jsonl$rl_rows" OUTPUT_DIR="$OUT/grpo" \
    bash recipes/grpo_rag.sh "${tiny[@]}" "${of_rl[@]}" --learning_rate "$grpo_rate" --beta 0.01 --lora_rank 32 --lora_alpha 32 --warmup_ratio 0.02 \
    --max_steps "$grpo_steps"
}
# All weights of policy and critic, which learns ten times as fast. 20 rounds of 256 questions, each gone through twice in mini-batches of 32;
# no entropy bonus, since this student's entropy does not fall without it.
# shellcheck disable=SC2317
train_PPO() {
  quiet ppo env SFT_ADAPTER="$(last "$OUT/sft")" TUNER=full DATASET="$OUT/data/rl_train.jsonl$rl_rows" OUTPUT_DIR="$OUT/ppo" \
    OVERTAKE_CRITIC='' OVERTAKE_CRITIC_LR=1e-3 OVERTAKE_ENTROPY=0 OVERTAKE_TARGET_KL=0 \
    bash recipes/ppo_rag.sh "${tiny[@]}" "${of_rl[@]}" --per_device_train_batch_size 32 --num_mini_batches 8 --num_ppo_epochs 2 \
    --learning_rate 1e-4 --kl_coef 0.01 --warmup_ratio 0 --max_steps 320
}
# What is deployed of a run.
merged() { if [[ $1 == GRPO ]]; then echo "$OUT/merged"; else echo "$OUT/merged_${1,,}"; fi; }

for algorithm in "${algorithms[@]}"; do
  stage "$algorithm on live retrieval (recipes/${algorithm,,}_rag.sh)"
  ! going_on "$OUT/${algorithm,,}" "$grpo_steps" || "train_$algorithm"
  python tools/curve.py "$OUT/${algorithm,,}"
done

# With a pretrained student the time is for the one comparison: GRPO with what it started from.
if [[ -z $model ]]; then
stage "control: the SFT model trained on for as long as $algorithm took"
[[ -n $(last "$OUT/sft_long") ]] || quiet sft_long env MODEL="$(last "$OUT/sft")" TUNER=full DATASET="$OUT/data/train.jsonl" OUTPUT_DIR="$OUT/sft_long" \
  bash recipes/sft_qwen32b.sh "${tiny[@]}" "${sft[@]}" --learning_rate 1e-3 --max_steps "$(python tools/curve.py "$OUT/sft" --steps-to-match "$OUT/${algorithm,,}")"
python tools/curve.py "$OUT/sft_long"
systems=(--system "SFT-long=$(last "$OUT/sft_long")")
fi

# ---------------------------------------------------------------- evaluate, export, deploy

stage "merge (recipes/export.sh)"
for algorithm in "${algorithms[@]}"; do
  folder=$(merged "$algorithm")
  [[ -d $folder ]] || quiet "export_${algorithm,,}" env ADAPTER="$(last "$OUT/${algorithm,,}")" OUTPUT_DIR="$folder" bash recipes/export.sh
  echo "$folder"
  systems+=(--system "$algorithm=$folder")
done

stage "evaluate on held-out questions, gold labels, paired intervals"
for algorithm in "${algorithms[@]}"; do
  python tools/evaluate.py "$OUT/data/test.jsonl" "$OUT/eval" "${judge[@]}" --against "$algorithm" --system "original query=copy" --system "copy policy=copy" \
    --system teacher --system "untrained=$student" \
    --system "SFT=$(last "$OUT/sft")" "${systems[@]}" >"$OUT/eval/table_${algorithm,,}.txt"
  # The means are the same in all of them.
  if [[ $algorithm == "${algorithms[0]}" ]]; then cat "$OUT/eval/table_${algorithm,,}.txt"; else sed -n '/^paired/,$p' "$OUT/eval/table_${algorithm,,}.txt"; fi
done | tee "$OUT/eval/table.txt"
runs=(--run "SFT=$OUT/sft")
for algorithm in "${algorithms[@]}"; do python tools/curve.py "$OUT/${algorithm,,}"; runs+=(--run "$algorithm=$OUT/${algorithm,,}"); done
python tools/report.py "$OUT/report.html" "${runs[@]}" --eval "$OUT/eval"

stage "deploy (recipes/deploy.sh) and one real request through model and retriever"
deploy ${model:+INFER=} MODEL="$folder"
python tools/examples.py "$OUT/eval" --system "$algorithm" --against "original query" --corpus "$kb" >"$OUT/eval/examples.txt"
question=$(sed -n 's/^[a-z]* ([0-9]* of [0-9]*): //p' "$OUT/eval/examples.txt" | head -n 1)
python tools/ask.py "$question" --tenant "$tenant" --base-url "$URL/v1"

cat <<END

Everything lies in $OUT:
  teacher.xlsx, validated.xlsx   the teacher's rewrites and what they retrieve      data/   training and held-out files
  sft/ grpo/ ppo/ sft_long/      runs with logging.jsonl                            merged*/ the models to deploy
  report.html                    the table and all curves on one page
  eval/                          table.txt, summary.json, answers and details       log/    every step's log

$(cat "$OUT/eval/examples.txt")

To type questions of your own: OVERTAKE_RAG_URL=... bash recipes/page.sh --eval $OUT/eval --system $algorithm=$folder   (docs/page.md)
The teacher here: ${teacher_model:-$OVERTAKE_TEACHER_MODEL}. ${model:+Student, untrained: $model. }The whole took $SECONDS s.
END
exit
}
