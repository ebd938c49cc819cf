#!/usr/bin/env bash
# shellcheck disable=SC2034,SC2154
# What the chains of recipes share: options, a folder of their own, services that end with them, stages, one way to train and compare.
#
#   CHAIN=quickstart; source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"
#   options --out=folder --fresh=switch -- "$@"; claim FOLDER WHAT FRESH; enter   # refused before anything is written or installed
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
STAGES=() services=()

# options --NAME=KIND... -- "$@": sets the variable of each option that is given (launch/chain.py has the kinds). -h prints the chain's head.
options() {
  local assigned name value
  if [[ " $* " == *' -h '* || " $* " == *' --help '* ]]; then sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[1]}"; exit; fi
  assigned=$("${LAUNCH[@]}" options stages ${#STAGES[@]} "${STAGES[@]}" words $# "$@") || exit
  while IFS='=' read -r name value; do [[ -z $name ]] || printf -v "$name" %s "$value"; done <<<"$assigned"
}

# claim FOLDER WHAT FRESH: FOLDER becomes OUT, of this chain on WHAT alone; with FRESH=1 what an earlier run left there goes.
claim() {
  OUT=$1
  local mark=$1/.$CHAIN
  if [[ -d $OUT && ! -f $mark && -n $(ls -A "$OUT") ]]; then die "$OUT holds files that are not of a $CHAIN run. Name another folder with --out"; fi
  mkdir -p "$OUT"
  # Two runs in one folder would write over each other.
  exec 8>>"$mark"
  flock -n 8 || die "another $CHAIN is at work in $OUT"
  if (($3)); then find "$OUT" -mindepth 1 -maxdepth 1 ! -name ".$CHAIN" -exec rm -rf {} +; : >"$mark"; fi
  [[ ! -s $mark || $(<"$mark") == "$2" ]] ||
    die "$OUT holds a run on $(<"$mark"), not on $2. Name another folder with --out, or forget that run with --fresh"
  echo "$2" >"$mark"; mkdir -p "$OUT/log"
}

# The environment, installed where there is none; the project's folder; children end with this script, however it ends.
enter() {
  if [[ ! -x ${VIRTUAL_ENV:-/nowhere}/bin/swift ]]; then
    bash "$ROOT/install.sh"
    # shellcheck source=/dev/null
    source "$ROOT/.venv/bin/activate"
  fi
  cd "$ROOT" || exit
  export OVERTAKE_CACHE_DIR=${OVERTAKE_CACHE_DIR:-$OUT/cache}
  trap stop EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
}

# A chain of STAGES can be entered and left at any of them. LEAVES[stage] names what it leaves in OUT.
declare -A LEAVES=()
# forget_from STAGE: what it and all behind it left is taken away.
forget_from() {
  local name file all=" ${STAGES[*]} "
  for name in $1 ${all#* "$1" }; do for file in ${LEAVES[$name]}; do rm -rf "${OUT:?}/$file"; done; done
}
# stop_after STAGE: ends the chain where --to says.
stop_after() { if [[ ${to:-} == "$1" ]]; then echo; echo "done up to $1: $OUT"; exit; fi; }
stage() { echo; printf '== [%4d s] %s\n' "$SECONDS" "$*"; }

# background COMMAND...: in a process group of its own, which ends with this script. A launcher's own group has 40 s to end.
background() { set -m; "$@" </dev/null 8<&- & services+=($!); set +m; }
stop() {
  trap '' INT TERM
  for pid in "${services[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in "${services[@]}"; do for _ in {1..250}; do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.2; done; done
  for pid in "${services[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
}
# serve NAME COMMAND... -- PROBE...: a service, whose log its owner alone may read; PROBE ends well once it answers.
serve() {
  local name=$1 log=$OUT/log/$1.log command=() started=$SECONDS; shift
  while [[ $1 != -- ]]; do command+=("$1"); shift; done
  : >"$log"; chmod 600 "$log"; background "${command[@]}" >"$log" 2>&1
  until "${@:2}" 2>/dev/null; do
    kill -0 "${services[-1]}" 2>/dev/null || { tail -n 5 "$log" >&2; die "$name did not start; the whole log: $log"; }
    ((SECONDS - started < 1800)) || die "$name is not ready; see $log"
    sleep 0.5
  done
}
# start NAME COMMAND...: a service of ours, whose address comes through a ready file and is URL then.
start() { local file=$OUT/log/$1.url; rm -f "$file"; serve "$@" --port 0 --ready-file "$file" -- test -s "$file"; URL=$(<"$file"); }
# answered FILE COMMAND...: FILE with services' answers, unless it is there. What failed is asked once more; then a few rows may go without.
answered() { [[ -f $1 ]] || "${@:2}" || { (($? == 1)) && { "${@:2}" || (($? == 1)); } && python -m overtake.unanswered "$1"; } || { rm -f "$1"; exit 1; }; }
# mock_teacher WORDS FLAG...: in the place of a teacher by address; the flags are demo.serve_teacher's.
mock_teacher() {
  stage "$1"; start teacher python -m demo.serve_teacher "${@:2}"; export OVERTAKE_TEACHER_BASE_URL=$URL/v1 OVERTAKE_TEACHER_MODEL=overtake-stand-in
}
# deploy ENVIRONMENT...: recipes/deploy.sh on a free port, the last start's if it can be; its address is URL. A tiny student answers before vLLM would have started.
deploy() {
  local port; port=$("${LAUNCH[@]}" port words 1 "$OUT/log/deploy.port")
  URL=http://127.0.0.1:$port
  serve deploy env -u API_KEY INFER=transformers "$@" PORT="$port" bash recipes/deploy.sh -- \
    python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=2)' "$URL/v1/models"
}

# quiet NAME COMMAND...: a launcher's thousand lines go to a log, its progress to the screen, its last lines too when it fails.
quiet() { background "${LAUNCH[@]}" quiet log 1 "$OUT/log/$1.log" words $(($# - 1)) "${@:2}"; wait "${services[-1]}" || exit; }
# last RUN: its checkpoint with the highest step; nothing when there is none.
last() { "${LAUNCH[@]}" last words 1 "$1"; }
curve() { python tools/curve.py "$1" || true; }  # a run of a few steps has none to show, and that is no reason to stop
# resist TASK ROWS [FLAG...]: the doctor's attacks on the rewards of RL. Flags go to tools/doctor.py.
resist() { "${LAUNCH[@]}" resist out 1 "$OUT" words $(($# + 2)) --task "$1" --data "$2" "${@:3}"; }

# train NAME RECIPE ENVIRONMENT... -- FLAG...: a run into OUT/NAME, unless it is there; its curve.
train() {
  local name=$1 recipe=$2 settings=(); shift 2
  while [[ $1 != -- ]]; do settings+=("$1"); shift; done
  [[ -n $(last "$OUT/$name") ]] || quiet "$name" env "${settings[@]}" TUNER="$tuner" OUTPUT_DIR="$OUT/$name" bash "recipes/$recipe.sh" "${@:2}"
  curve "$OUT/$name"
}
# train_rl NAME ENVIRONMENT...: RL from the SFT checkpoint.
train_rl() { train "$1" "${rl}_$CHAIN" -u MODEL SFT_ADAPTER="$(last "$OUT/sft")" DATASET="$rl_data" "${@:2}" -- "${of_rl[@]}"; }

# tiny_student MODULE FLAG...: on a CPU, where no MODEL is named. All its weights are trained: a model this small has no room for adapters.
tiny_student() {
  # Two busy cores: threads that wait in a spin would take the services' time.
  export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
  [[ -f $OUT/base/config.json ]] || python -m "demo.tiny_students.$1" "$OUT/base" "${@:2}"
  student=$OUT/base tuner=full
  # What ms-swift cannot tell from a model of one's own comes first.
  own=(--torch_dtype float32 --bf16 false --model_type qwen3 --eval_strategy no --save_strategy steps --save_steps 100000 --gradient_checkpointing false)
}

# train_and_compare FIRST CONTROL TABLE FLAG...: stages FIRST to FIRST + 2: SFT; RL and, as control into OUT/CONTROL ('' for none), the SFT
# model trained on for as long as RL took (else RL might only have gained what more training of any kind gains); all of them on held-out rows,
# into eval/TABLE. Flags go to tools/evaluate.py. Reads student, tuner, sft_data, rl_data, rl (grpo or ppo), rl_stage, candidates, test_file
# and the flags of_sft, of_sft_steps, of_rl.
train_and_compare() {
  local first=$1 control=$2 table=$OUT/eval/$3 sft on; shift 3
  stage "$first sft (recipes/sft_$CHAIN.sh)"
  train sft "sft_$CHAIN" MODEL="$student" DATASET="$sft_data" -- "${of_sft[@]}" "${of_sft_steps[@]}"
  stop_after sft
  stage "$((first + 1)) $rl_stage (recipes/${rl}_$CHAIN.sh)"
  train_rl "$rl"
  sft=$(last "$OUT/sft") candidates+=(--system "SFT=$sft" --system "${rl^^}=$(last "$OUT/$rl")")
  if [[ -n $control ]]; then
    stage "  control: the SFT model trained on for as long as ${rl^^} took"
    if [[ $tuner == full ]]; then on=(MODEL="$sft" --); else on=(MODEL="$student" -- --adapters "$sft"); fi
    train "$control" "sft_$CHAIN" DATASET="$sft_data" "${on[@]}" "${of_sft[@]}" --max_steps "$(python tools/curve.py "$OUT/sft" --steps-to-match "$OUT/$rl")"
    candidates+=(--system "SFT-long=$(last "$OUT/$control")")
  fi
  stop_after "$rl_stage"
  stage "$((first + 2)) evaluate: held-out rows, paired intervals"
  mkdir -p "$OUT/eval"
  [[ -f $table ]] || { python tools/evaluate.py "$test_file" "$OUT/eval" --task "$CHAIN" "$@" "${candidates[@]}" --against "${rl^^}" >"$table.part"
    mv "$table.part" "$table"; }
  cat "$table"
}
