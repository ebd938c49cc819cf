#!/usr/bin/env bash
# shellcheck disable=SC2034
# What every recipe shares: find the project, the environment and the hardware profile, put the flags together, run `swift`.
#
#   source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   run_sft query_rewrite --learning_rate 5e-5 -- "$@"
#
# The name (query_rewrite) is the folder under output/. A flag given twice keeps its last value; the order is: this file, the recipe's
# numbers, the profile's where the hardware forces another, the caller's own ("$@", after the --). Settings, all of them optional:
#   PROFILE      a file in recipes/profiles/; found from the GPUs when unset
#   MODEL        hub name or folder; else the profile's, in RL the one the SFT checkpoint was trained on
#   TUNER        lora (default) or full
#   DATASET, VAL_DATASET   rows; else output/NAME/data/
#   OUTPUT_DIR   else output/NAME/{sft,grpo,ppo}
#   SFT_ADAPTER  the checkpoint RL starts from; else the last one under output/NAME/sft; `none` starts from MODEL itself
#   ROLLOUT_HOST with PROFILE=multinode, the machines that run rollout.sh, separated by spaces; PORT, GROUP_PORT its ports (8000, 51216)
#   REPORT_TO    wandb, swanlab or both: where a training is watched beside TensorBoard (docs/watching.md)
#   DRY_RUN=1    print the command; ask no hardware, no file, no endpoint, no hub
#   DOCTOR=0     train although tools/doctor.py finds what would stop or spoil the run
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRY_RUN=${DRY_RUN:-0}
TUNER=${TUNER:-lora}
KIND=''  # sft, grpo or ppo in a training, for the profiles

die() { echo "error: $*" >&2; exit 2; }
note() { echo "$*" >&2; }
dry() { [[ $DRY_RUN == 1 ]]; }
# What stops a real run is only a remark in a dry one.
want() { if dry; then note "note: $*"; else die "$*"; fi; }
absolute() { realpath -m -- "$1"; }

# ---------------------------------------------------------------- environment

use_swift() {
  dry && return
  # Swift is a programming language too: only a script is ms-swift's launcher.
  local found; found=$(command -v swift || true)
  if [[ -z $found || $(head -c 2 "$found") != '#!' ]]; then
    [[ -x $ROOT/.venv/bin/swift ]] || die "ms-swift is not installed. Run: bash install.sh"
    # shellcheck source=/dev/null
    source "$ROOT/.venv/bin/activate"
  fi
}

# ---------------------------------------------------------------- hardware

profiles() { local files=("$ROOT"/recipes/profiles/*.sh); files=("${files[@]##*/}"); echo "${files[*]%.sh}"; }

# Memory of each GPU this process may use, one a line in MiB. Where there is none nvidia-smi says so in words, on stdout too.
gpus() {
  [[ -z ${CUDA_VISIBLE_DEVICES-all} ]] && return
  command -v nvidia-smi >/dev/null || return 0
  nvidia-smi ${CUDA_VISIBLE_DEVICES:+-i "$CUDA_VISIBLE_DEVICES"} --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null |
    { grep -E '^ *[0-9]+ *$' || true; }
}

# A card sold as 80 GB shows 79 to 82 GB, one of 24 GB 22.5 and up, one of 16 GB 15 and up.
card_class() {
  if (($1 >= 75000)); then echo 80; elif (($1 >= 22000)); then echo 24; elif (($1 >= 14500)); then echo 16; else echo 0; fi
}

find_profile() {
  local -a cards; mapfile -t cards < <(gpus | sort -n)
  local count=${#cards[@]} class=0
  ((count)) && class=$(card_class "${cards[0]}")
  FOUND="$count GPUs, the smallest of ${cards[0]:-0} MiB"
  FOUND_COUNT=$count FOUND_CLASS=$class
  FOUND_PROFILE=
  case $class in
    80) if ((count >= 8)); then FOUND_PROFILE=8x80g; elif ((count >= 4)); then FOUND_PROFILE=4x80g; else FOUND_PROFILE=1x80g; fi ;;
    16 | 24) FOUND_PROFILE=1x${class}g ;;
  esac
}

# Sets what a profile may set, then reads it: GPUS and GPU_GB (what it wants), DEFAULT_MODEL, DEFAULT_CRITIC (PPO's, where the policy's own
# base would not fit), RUN_ENV, and flags for each launcher; RL_FLAGS are GRPO's and PPO's.
use_profile() {
  GPUS=0 GPU_GB=0 DEFAULT_MODEL='' DEFAULT_CRITIC='' RUN_ENV=() TRAIN_FLAGS=() SFT_FLAGS=() RL_FLAGS=() ROLLOUT_FLAGS=() DEPLOY_FLAGS=()
  if [[ -z ${PROFILE:-} ]]; then
    find_profile
    # A dry run asks no hardware: it shows what the recipes are written for.
    if dry && [[ -z $FOUND_PROFILE ]]; then FOUND_PROFILE=4x80g; fi
    [[ -n $FOUND_PROFILE ]] || die "no GPU of 16 GB or more is visible and PROFILE is not set. Set PROFILE=cpu to train a small model here, or one of: $(profiles)"
    PROFILE=$FOUND_PROFILE
    note "profile $PROFILE ($FOUND)"
  fi
  [[ $PROFILE =~ ^[A-Za-z0-9_-]+$ && -f $ROOT/recipes/profiles/$PROFILE.sh ]] || die "PROFILE=$PROFILE is not a profile. There are: $(profiles)"
  # shellcheck source=/dev/null
  source "$ROOT/recipes/profiles/$PROFILE.sh"
  # A recipe may define on_profile: its own numbers where it has counted the memory for this profile.
  if declare -F on_profile >/dev/null; then on_profile; fi
  DEFAULT_MODEL=${RECIPE_MODEL:-$DEFAULT_MODEL}
  if [[ -n $RECIPE_MODEL ]]; then DEFAULT_CRITIC=$RECIPE_CRITIC; fi
  RUN_ENV+=(${RECIPE_ENV[@]+"${RECIPE_ENV[@]}"})
  ((GPUS)) || return 0
  # More visible cards than processes would make ms-swift spread one model over several, which neither DeepSpeed nor vLLM takes.
  [[ -n ${CUDA_VISIBLE_DEVICES:-} ]] || RUN_ENV+=("CUDA_VISIBLE_DEVICES=$(seq -s, 0 $((GPUS - 1)))")
  dry && return
  find_profile
  ((FOUND_COUNT >= GPUS && FOUND_CLASS >= GPU_GB)) ||
    die "PROFILE=$PROFILE wants $GPUS x $GPU_GB GB; found: $FOUND. Set PROFILE=${FOUND_PROFILE:-cpu}, or DRY_RUN=1 to see the command only"
}

# ---------------------------------------------------------------- flags

# set_flags --a 1 --b 2 3: FLAGS in order, a later value replacing an earlier one. The values of flag number N are the array FLAG_N: words,
# which no shell reads a second time.
declare -A FLAG_AT=()
FLAG_NAMES=()
set_flags() {
  local name at
  local -n values=NONE
  while (($#)); do
    if [[ $1 == --?* ]]; then
      name=${1%%=*}
      [[ $name =~ ^--[A-Za-z0-9][A-Za-z0-9_.-]*$ ]] || die "$(quote "$name") is no flag: write --name value"
      if [[ -z ${FLAG_AT[$name]:-} ]]; then FLAG_NAMES+=("$name"); FLAG_AT[$name]=${#FLAG_NAMES[@]}; fi
      at=${FLAG_AT[$name]}
      local -n values=FLAG_$at
      values=()
      [[ $1 != *=* ]] || values=("${1#*=}")
    else
      [[ -n ${name:-} ]] || die "expected a --flag, got: $1"
      values+=("$1")
    fi
    shift
  done
}
drop_flags() {
  local name at
  for name; do
    at=${FLAG_AT[$name]:-0}
    if ((at)); then FLAG_NAMES[at - 1]=''; fi
  done
}
has_flag() { [[ -n ${FLAG_AT[$1]:-} ]]; }
# flag NAME: the value of a flag set so far, a line each; nothing where it is not set.
flag() {
  has_flag "$1" || return 0
  local -n values=FLAG_${FLAG_AT[$1]}
  printf '%s\n' ${values[@]+"${values[@]}"}
}
# A word for the shell to read again; as it is when nothing in it needs quoting.
quote() { if [[ $1 =~ ^[A-Za-z0-9_./:=,@%+#-]+$ ]]; then printf %s "$1"; else printf %q "$1"; fi; }

# run_swift COMMAND: runs `swift COMMAND` with the flags set so far, one a line so that it can be read and copied. LAUNCHER takes swift's place.
LAUNCHER=(swift)
run_swift() {
  name_family
  local text='' name i value
  # ${RUN_ENV[@]+...}: an empty array is "unset" to older bash.
  local -a command=(${RUN_ENV[@]+"${RUN_ENV[@]}"} "${LAUNCHER[@]}" "$1")
  for value in ${RUN_ENV[@]+"${RUN_ENV[@]}"}; do text+="${value%%=*}=$(quote "${value#*=}") "; done
  for value in "${LAUNCHER[@]}" "$1"; do text+="$(quote "$value") "; done
  text=${text% }
  for i in "${!FLAG_NAMES[@]}"; do
    name=${FLAG_NAMES[i]}
    [[ -n $name ]] || continue
    local -n values=FLAG_$((i + 1))
    command+=("$name" ${values[@]+"${values[@]}"})
    text+=" \\"$'\n'"    $name"
    for value in ${values[@]+"${values[@]}"}; do text+=" $(quote "$value")"; done
  done
  echo "$text"
  dry && return
  run_group env "${command[@]}"
}

# Runs a command in a process group of its own and ends the whole group with this script: torchrun's workers, data loaders and
# vLLM engines otherwise outlive an interrupted launcher and keep the cards.
run_group() {
  local group status=0 second
  set -m; "$@" </dev/null & group=$!; set +m
  # One signal only: torchrun takes up to 30 s to end its workers, and a second signal would stop it in the middle of that.
  trap 'trap "" INT TERM HUP; end_group "$group"' INT TERM HUP
  wait "$group" || status=$?
  trap "" INT TERM HUP
  end_group "$group"
  for ((second = 0; second < 40; second++)); do
    kill -0 -- "-$group" 2>/dev/null || break
    sleep 1
  done
  kill -KILL -- "-$group" 2>/dev/null || true
  trap - INT TERM HUP
  return "$status"
}
end_group() { [[ ${ENDED:-} == "$1" ]] || kill -TERM -- "-$1" 2>/dev/null || true; ENDED=$1; }

# ---------------------------------------------------------------- files

# The checkpoint with the highest step under a run's folder; nothing when there is none.
last_checkpoint() {
  [[ -d $1 ]] || return 0
  find "$1" -maxdepth 1 -type d -name 'checkpoint-*' -printf '%f\n' | { grep -E '^checkpoint-[0-9]+$' || true; } | sort -t- -k2n | tail -n 1 |
    while read -r name; do echo "$1/$name"; done
}

is_adapter() { [[ -f $1/adapter_config.json ]]; }
is_model() { [[ -f $1/config.json ]]; }
# trained_with FOLDER FLAG: the truth value or number that a checkpoint's training was told; nothing where it was told none.
trained_with() { [[ ! -f $1/args.json ]] || sed -nE "s/^ *\"$2\": (true|false|[0-9]+),?\$/\1/p" "$1/args.json"; }

# base_of ADAPTER MODEL DRY: what an adapter's run said of its base, a line each: model (MODEL, where given), model_type, template. args.json
# is ms-swift's, the other file PEFT's.
base_of() {
  python3 - "$@" <<'PY'
import json, pathlib, sys
folder, given, dry = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1"
def read(name):
    try:
        return json.loads((folder / name).read_text("utf-8")) if (folder / name).exists() else {}
    except ValueError:
        sys.exit(f"error: {folder / name} is no JSON: take another checkpoint")
args = read("args.json")
model = given or args.get("model") or read("adapter_config.json").get("base_model_name_or_path")
if not model:
    sys.exit(f"error: {folder} does not name its base model: set MODEL=")
if not given and not dry and model.startswith(("/", "./", "../")) and not pathlib.Path(model).is_dir():
    sys.exit(f"error: {folder} was trained on {model}, which is not there: set MODEL= to that base's folder or hub name")
print(model, args.get("model_type") or "", args.get("template") or "", sep="\n")
PY
}

# set_base ADAPTER: the flags that name what an adapter was trained on; MODEL= in its place where it is set.
set_base() {
  local said; said=$(base_of "$1" "${MODEL:-}" "$DRY_RUN") || exit 2
  local -a base; mapfile -t base <<<"$said"
  set_model "${base[0]}"
  # A model of one's own is not known by its name, so what the SFT run was told goes on.
  if [[ -n ${base[1]:-} ]]; then set_flags --model_type "${base[1]}"; fi
  if [[ -n ${base[2]:-} ]]; then set_flags --template "${base[2]}"; fi
}

# A local file or folder becomes absolute, so that `swift export` and `swift deploy` find it from any folder; a hub name stays.
local_or_hub() { if [[ -e $1 ]]; then absolute "$1"; else echo "$1"; fi; }

set_model() {
  local model; model=$(local_or_hub "$1")
  set_flags --model "$model"
  # ms-swift compares local weights with the hub's at start: 7 s of retries without a network, and nothing to find for a folder.
  if [[ -d $model ]]; then set_flags --check_model false; fi
}

# name_family: what ms-swift calls the model of a folder whose name it may not know; words of the caller's, or of an earlier run, stay.
name_family() {
  local model words; model=$(flag --model)
  if has_flag --template || has_flag --model_type || ! is_model "${model:-/nowhere}"; then return; fi
  words=$(with_plugin python3 -m overtake.model_family "$model") || exit 2
  # shellcheck disable=SC2086
  set_flags $words
}

# What a recipe may set of its rows: the model it is written for, over the profile's; the names of its files (training and validation;
# '' for none) and the data set's name under which they are read; the tool that makes them, for the message.
# RECIPE_CRITIC is PPO's critic of that model's family, RECIPE_ENV what the run gets in its environment.
RECIPE_CRITIC='' RECIPE_ENV=()
RECIPE_MODEL='' DATA_FILES=() DATA_NAME='' DATA_TOOL=tools/convert.py
# set_data NAME TRAIN VAL: the rows, checked before anything is loaded.
set_data() {
  local folder=$ROOT/output/$1/data train=${DATASET:-} val=${VAL_DATASET:-}
  local file first=${DATA_FILES[0]-$2} second=${DATA_FILES[1]-$3}
  if [[ -z $train ]]; then
    train=$folder/$first
    if [[ -n $second ]]; then val=${val:-$folder/$second}; fi
  elif [[ -z $val && -n $second && -f $(dirname "$train")/$second ]]; then
    val=$(dirname "$train")/$second
  fi
  for file in "$train" ${val:+"$val"}; do
    # name#500 takes 500 rows; what does not look like a file is a hub dataset.
    cut_rows "$file"
    if [[ $CUT =~ \.(jsonl?|csv)$ && ! -s $CUT ]]; then
      want "$CUT does not exist or is empty. Make it: python $DATA_TOOL; or set DATASET= (and VAL_DATASET=)"
    fi
  done
  set_flags --dataset "$(named_rows "$train")"
  if [[ -n $val ]]; then set_flags --val_dataset "$(named_rows "$val")"; fi
}
# cut_rows PATH#500: CUT is the path, ROWS the #500 behind it, if there is one; any other # is part of a name.
cut_rows() { CUT=$1 ROWS=''; if [[ $1 =~ ^(.*)(#[0-9]+)$ ]]; then CUT=${BASH_REMATCH[1]} ROWS=${BASH_REMATCH[2]}; fi; }
# A file is read under DATA_NAME, if there is one; a name that is no file is a hub's or a registered data set's own.
named_rows() {
  cut_rows "$1"
  local file=$CUT rows=$ROWS
  if [[ -n $DATA_NAME && $file =~ \.(jsonl?|csv|xlsx|parquet)$ && $file != *:* ]]; then echo "$DATA_NAME:$(absolute "$file")$rows"; else local_or_hub "$1"; fi
}

# ---------------------------------------------------------------- launchers

# begin NAME KIND: common to every training run.
begin() {
  [[ $TUNER == lora || $TUNER == full ]] || die "TUNER=$TUNER: lora or full"
  KIND=$2
  use_profile
  use_swift
  OUTPUT_DIR=$(absolute "${OUTPUT_DIR:-$ROOT/output/$1/$2}")
  # What rewards cost is added up under this name, over ranks and restarts.
  export OVERTAKE_BUDGET_RUN=${OVERTAKE_BUDGET_RUN:-$OUTPUT_DIR}
  set_flags --output_dir "$OUTPUT_DIR" --add_version false --external_plugins "$ROOT/plugin/register.py"
  # ms-swift waits 208 days for a rank that hangs; half an hour is longer than any step.
  set_flags --ddp_timeout 1800
  set_flags --tuner_type "$TUNER"
  [[ -n ${REPORT_TO:-} ]] || return 0
  local word words; words=$(DRY_RUN=$DRY_RUN with_plugin python3 -m overtake.boards "$OUTPUT_DIR") || exit 2
  local -a boards=()
  while IFS= read -r word; do
    if [[ $word =~ ^[A-Z_]+= ]]; then RUN_ENV+=("$word"); else boards+=("$word"); fi
  done <<<"$words"
  set_flags "${boards[@]}"
}

# examine COMMAND: the doctor's fast part, a second without network, on what is about to run.
examine() {
  if dry || [[ ${DOCTOR:-1} == 0 ]]; then return; fi
  DRY_RUN=1 run_swift "$1" | with_plugin python "$ROOT/tools/doctor.py" --fast ||
    die "that would stop or spoil this run. Set it right, or go on regardless with DOCTOR=0"
}

# finish COMMAND KIND_FLAGS...: the recipe's flags are in; now the profile's, then the caller's.
finish() {
  local command=$1; shift
  local -a caller=("$@")
  set_flags ${TRAIN_FLAGS[@]+"${TRAIN_FLAGS[@]}"} ${KIND_FLAGS[@]+"${KIND_FLAGS[@]}"} ${caller[@]+"${caller[@]}"}
  if has_flag --swanlab_token; then die "--swanlab_token: every user of this machine would see the key. Set SWANLAB_API_KEY= in the environment"; fi
  # Without evaluations there is nothing to stop by, and ms-swift fails on comparing nothing.
  if [[ $(flag --eval_strategy) == no ]]; then drop_flags --early_stop_interval; fi
  if has_flag --val_dataset; then drop_flags --split_dataset_ratio; fi
  if [[ $TUNER == full ]]; then drop_flags --lora_rank --lora_alpha --lora_dropout --target_modules; fi
  local last; last=$(last_checkpoint "$OUTPUT_DIR")
  if [[ -n $last ]] && ! has_flag --resume_from_checkpoint; then
    # Old and new checkpoints in one folder could not be told apart.
    want "$OUTPUT_DIR already holds a run. Go on with it: add --resume_from_checkpoint $last; or set OUTPUT_DIR=, or remove the folder"
  fi
  examine "$command"
  dry || rm -f "$OUTPUT_DIR/stopped.txt"
  run_swift "$command" || {
    local status=$?
    # Said already, but torchrun's report of its processes has buried it.
    if [[ -f $OUTPUT_DIR/stopped.txt ]]; then cat "$OUTPUT_DIR/stopped.txt" >&2; fi
    return "$status"
  }
}

# Splits "recipe's flags -- caller's flags" into RECIPE and CALLER.
split() {
  RECIPE=() CALLER=()
  while (($#)) && [[ $1 != -- ]]; do RECIPE+=("$1"); shift; done
  (($#)) && shift
  CALLER=("$@")
}

# run_sft NAME [FLAGS] -- "$@"
run_sft() {
  local name=$1; shift
  split "$@"
  begin "$name" sft
  set_model "${MODEL:-$DEFAULT_MODEL}"
  set_data "$name" train.jsonl val.jsonl
  set_flags ${RECIPE[@]+"${RECIPE[@]}"}
  KIND_FLAGS=(${SFT_FLAGS[@]+"${SFT_FLAGS[@]}"})
  finish sft ${CALLER[@]+"${CALLER[@]}"}
}

# The checkpoint RL starts from becomes --model (full), or --adapters on its base; the KL term is then against it, not the base.
set_start() {
  local start=${SFT_ADAPTER:-} sft=$ROOT/output/$1/sft
  if [[ $start == none ]]; then
    set_model "${MODEL:-$DEFAULT_MODEL}"
    return
  fi
  if [[ -z $start ]]; then
    start=$(last_checkpoint "$sft")
    if [[ -z $start ]]; then
      want "there is no checkpoint under $sft. Run the SFT recipe first, or set SFT_ADAPTER= (a checkpoint, or none to start from MODEL)"
      start=$sft/checkpoint-LAST
    fi
  fi
  start=$(absolute "$start")
  if is_adapter "$start" || { [[ ! -e $start && $TUNER == lora ]] && dry; }; then
    [[ $TUNER == lora ]] || die "$start is a LoRA adapter, so TUNER=full cannot go on from it. Merge it first: ADAPTER=$start bash recipes/export.sh"
    if [[ -e $start ]]; then set_base "$start"; else set_model "${MODEL:-$DEFAULT_MODEL}"; fi
    set_flags --adapters "$start" --ref_adapters "$start"
  elif is_model "$start" || { [[ ! -e $start ]] && dry; }; then
    set_model "$start"
  else
    die "$start is no checkpoint: neither adapter_config.json nor config.json is in it"
  fi
}

# run_rl KIND NAME [FLAGS] -- "$@"
run_rl() {
  local kind=$1 name=$2; shift 2
  split "$@"
  begin "$name" "$kind"
  set_flags --rlhf_type "$kind"
  set_start "$name"
  if [[ $kind == ppo ]]; then choose_critic; fi
  set_data "$name" rl_train.jsonl rl_val.jsonl
  set_flags ${RECIPE[@]+"${RECIPE[@]}"}
  KIND_FLAGS=(${RL_FLAGS[@]+"${RL_FLAGS[@]}"})
  finish rlhf ${CALLER[@]+"${CALLER[@]}"}
}
run_grpo() { run_rl grpo "$@"; }
run_ppo() { run_rl ppo "$@"; }

# The profile's critic, where it has one and the policy is of its family: the user's own choice, also of none, goes before it.
choose_critic() {
  [[ -n $DEFAULT_CRITIC && -z ${OVERTAKE_CRITIC+set} ]] || return 0
  case $(flag --model) in
    "$DEFAULT_MODEL") ;;
    # The other family's 32B: a critic that reads its tokens, smaller than the one that the profile has counted.
    Qwen/Qwen3-32B) DEFAULT_CRITIC=Qwen/Qwen3-4B ;;
    *) return 0 ;;
  esac
  if grep -qsE '^critic *:' "${OVERTAKE_CONFIG:-/dev/null}"; then return; fi
  RUN_ENV+=("OVERTAKE_CRITIC=$DEFAULT_CRITIC")
}

# What `swift sample` hands its engine, as JSON. Of itself it hands it neither the adapter (the base model would draw, without a word)
# nor, to transformers, the template.
engine_kwargs() {
  python3 - "$(flag --engine_kwargs)" "$(flag --sampler_engine)" "$(flag --model)" "$(flag --adapters)" "$(flag --template)" "$(flag --system)" <<'PY'
import json, pathlib, sys
given, engine, model, adapter, template, system = sys.argv[1:]
def saved(name):
    file = pathlib.Path(adapter or model) / name
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
try:
    kwargs = {**json.loads(given or "{}")}
except (TypeError, ValueError):
    sys.exit(f"error: --engine_kwargs {given} is no JSON object")
if system := system or saved("args.json").get("system"):
    sys.exit(f"error: --system {system[:40]!r}, given here or when the student was trained, would take the place of the rows' own. Leave it out")
if adapter:
    kwargs.setdefault("adapters", [adapter])
    if engine == "vllm":
        # vLLM takes powers of two, from 8.
        kwargs.setdefault("max_lora_rank", max(8, 1 << (saved("adapter_config.json").get("r", 16) - 1).bit_length()))
if template := template or saved("args.json").get("template"):
    kwargs.setdefault("template_type", template)
print(json.dumps(kwargs, ensure_ascii=False))
PY
}

# run_sample NAME [FLAGS] -- "$@": draws on every row of DATASET into OUTPUT_DIR/draws.jsonl, by the model RL would start from. Draws that
# are there are not drawn again, and a run that was interrupted is gone on with. Sets STUDENT to what drew.
run_sample() {
  local name=$1; shift
  split "$@"
  SAMPLE_FLAGS=()
  use_profile
  use_swift
  OUTPUT_DIR=$(absolute "${OUTPUT_DIR:-$ROOT/output/$name/sample}")
  DATASET=$(absolute "${DATASET:-$ROOT/output/$name/data/rl_train.jsonl}")
  [[ -s $DATASET ]] || want "$DATASET does not exist or is empty. Make it: python $DATA_TOOL; or set DATASET="
  set_flags --sampler_type sample --output_dir "$OUTPUT_DIR" --output_file draws.jsonl --external_plugins "$ROOT/plugin/register.py"
  set_start "$name"
  # What only training knows.
  drop_flags --ref_adapters --check_model
  set_flags ${RECIPE[@]+"${RECIPE[@]}"} ${SAMPLE_FLAGS[@]+"${SAMPLE_FLAGS[@]}"} ${CALLER[@]+"${CALLER[@]}"}
  name_family
  local kwargs; kwargs=$(engine_kwargs) || exit 2
  set_flags --engine_kwargs "$kwargs"
  STUDENT=$(flag --adapters); STUDENT=${STUDENT:-$(flag --model)}

  # ms-swift leaves out the rows behind the last full batch, and fails where there is none. So the batches are made even, and the last is
  # filled up with rows that are drawn on twice, fewer of them than there are batches.
  local count=0 size batches
  if [[ -s $DATASET ]]; then count=$(grep -c '[^[:space:]]' "$DATASET"); fi
  size=$(flag --num_sampling_batch_size)
  [[ $size =~ ^[1-9][0-9]*$ ]] || die "--num_sampling_batch_size $size: give a number of rows"
  batches=$(((count + size - 1) / size))
  if ((batches)); then size=$(((count + batches - 1) / batches)); fi
  set_flags --dataset "overtake/sample:$DATASET#$((size * (batches ? batches : 1)))" --num_sampling_batch_size "$size"

  local asked draws=$OUTPUT_DIR/draws.jsonl; asked=$(DRY_RUN=1 run_swift sample)
  if dry; then echo "$asked"; return; fi
  asked+=$'\n'"# rows: $(sha256sum <"$DATASET")"
  if [[ -e $draws || -e $draws.resume ]] && [[ $(cat "$OUTPUT_DIR/asked.txt" 2>/dev/null) != "$asked" ]]; then
    die "$OUTPUT_DIR holds draws by another command or on other rows (its asked.txt says which). Set OUTPUT_DIR=, or remove the folder"
  fi
  mkdir -p "$OUTPUT_DIR"
  echo "$asked" >"$OUTPUT_DIR/asked.txt"
  if [[ -e $draws ]]; then note "$draws is there: nothing is drawn again"; return; fi
  if [[ -e $draws.resume && -e $OUTPUT_DIR/ckpt_state.json ]]; then
    # ms-swift copies the file after each batch: of a copy that was interrupted the last line is not whole.
    if [[ -n $(tail -c 1 "$draws.resume") ]]; then sed -i '$d' "$draws.resume"; fi
    set_flags --resume true
  else
    rm -f "$OUTPUT_DIR/ckpt_state.json"
  fi
  run_swift sample
}

# ---------------------------------------------------------------- tasks

# A program of ours; what it imports of this project is the checkout's.
with_plugin() { PYTHONPATH=$ROOT/plugin${PYTHONPATH:+:$PYTHONPATH} "$@"; }

# task_of SYSTEM: what is known of a task (a name, or the file of one's own), a line each: its folder under output/, its served name, port, flags.
task_of() { with_plugin python3 -m overtake.tasks "$1"; }

# ---------------------------------------------------------------- servers

# is_loopback HOST: whether only this machine reaches the address.
is_loopback() { [[ $1 == localhost || $1 == ::1 || $1 =~ ^127\.[0-9]+\.[0-9]+\.[0-9]+$ ]]; }

# ms-swift silently takes the next port when this one is busy. The test is its own: a port just left counts as busy for a minute.
refuse_busy() {
  [[ $1 =~ ^[0-9]{1,5}$ ]] || die "port $(quote "$1") is no number: set PORT= to one"
  dry || python3 -c 'import socket, sys; socket.socket().bind(("", int(sys.argv[1])))' "$1" 2>/dev/null ||
    die "port $1 is busy, or was until a moment ago. ${2:-Set PORT= to another, or wait a minute}"
}

# ---------------------------------------------------------------- what a run left

# best_of CHECKPOINT: the checkpoint of the same run that did best on held-out rows; itself when the run knows none, or it is gone.
best_of() {
  python3 - "$1" <<'PY'
import json, pathlib, sys
last = pathlib.Path(sys.argv[1])
state = last / "trainer_state.json"
best = (json.loads(state.read_text("utf-8")) if state.is_file() else {}).get("best_model_checkpoint")
best = last.parent / pathlib.Path(best).name if best else last
print(best if best.is_dir() else last)
PY
}

# newest NAME [SUFFIX]: the checkpoint of a system that was written last, over all of its runs; with -merged, the export.
newest() {
  local folder=$ROOT/output/$1
  [[ -d $folder ]] || return 0
  find "$folder" -mindepth 2 -maxdepth 2 -type d -name 'checkpoint-*' -printf '%T@ %p\n' | sort -n |
    { grep -E "/checkpoint-[0-9]+${2:-}\$" || true; } | tail -n 1 | cut -d' ' -f2-
}

# comparison_of CHECKPOINT: the summary.json that tools/evaluate.py left in eval/, in the run's folder or beside it; '' where there is none.
comparison_of() {
  local run; run=$(dirname "$1")
  local file; for file in "$run/eval/summary.json" "$(dirname "$run")/eval/summary.json"; do
    if [[ -f $file ]]; then echo "$file"; return; fi
  done
}
