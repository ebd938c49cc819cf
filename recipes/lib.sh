#!/usr/bin/env bash
# shellcheck disable=SC2034
# What every recipe shares: it reads the hardware profile and hands the numbers, as the words they are, to plugin/overtake/launch, which
# finds model, rows and checkpoints, prints the command and runs it. Python 3.11 is all that DRY_RUN=1 needs.
#
#   source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   run_sft query_rewrite --learning_rate 5e-5 -- "$@"
#
# The name (query_rewrite) is the folder under output/. A flag given twice keeps its last value; the order is: the launcher, the recipe's
# numbers, the profile's where the hardware forces another, the caller's own ("$@", after the --). docs/profiles.md has the variables.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAUNCH=("$(command -v python3.11 >/dev/null && echo python3.11 || echo python3)" "$ROOT/plugin/overtake/launch/__main__.py")
TUNER=${TUNER:-lora}
# What a recipe may set: the model it is written for, over the profile's, PPO's critic of that model's family, what the run gets in its
# environment; the names of its files (training and validation; '' for none), the data set's name under which they are read, the tool that
# makes them, for the message.
RECIPE_MODEL='' RECIPE_CRITIC='' RECIPE_ENV=() DATA_FILES=() DATA_NAME='' DATA_TOOL=tools/convert.py

# One line, whatever a path or a setting holds.
die() { local message=$*; printf 'error: %s\n' "${message//[[:cntrl:]]/ }" >&2; exit 2; }
dry() { [[ ${DRY_RUN:-0} == 1 ]]; }
# What stops a real run is only a remark in a dry one.
want() { dry || die "$*"; echo "note: $*" >&2; }

# hand NAME WORD...: an array for the launcher.
HANDED=()
hand() { HANDED+=("$1" "$(($# - 1))" "${@:2}"); }

# Sets what a profile may set, then reads it: GPUS and GPU_GB (what it wants), DEFAULT_MODEL, DEFAULT_CRITIC (PPO's, where the policy's own
# base would not fit), RUN_ENV, and flags for each launcher; RL_FLAGS are GRPO's and PPO's. KIND is sft, grpo or ppo in a training.
use_profile() {
  local files=("$ROOT"/recipes/profiles/*.sh) name; files=("${files[@]##*/}")
  GPUS=0 GPU_GB=0 DEFAULT_MODEL='' DEFAULT_CRITIC='' RUN_ENV=()
  TRAIN_FLAGS=() SFT_FLAGS=() RL_FLAGS=() SAMPLE_FLAGS=() ROLLOUT_FLAGS=() DEPLOY_FLAGS=()
  PROFILE=${PROFILE:-$("${LAUNCH[@]}" profile)}
  [[ $PROFILE =~ ^[A-Za-z0-9_-]+$ && -f $ROOT/recipes/profiles/$PROFILE.sh ]] || die "PROFILE=$PROFILE is not a profile. There are: ${files[*]%.sh}"
  # shellcheck source=/dev/null
  source "$ROOT/recipes/profiles/$PROFILE.sh"
  # A recipe may define on_profile: its own numbers where it has counted the memory for this profile.
  if declare -F on_profile >/dev/null; then on_profile; fi
  if [[ -n $RECIPE_MODEL ]]; then DEFAULT_MODEL=$RECIPE_MODEL DEFAULT_CRITIC=$RECIPE_CRITIC; fi
  RUN_ENV+=("${RECIPE_ENV[@]}")
  hand data_files "${DATA_FILES[@]}"; hand data_name "$DATA_NAME"; hand data_tool "$DATA_TOOL"
  for name in PROFILE GPUS GPU_GB DEFAULT_MODEL DEFAULT_CRITIC RUN_ENV {TRAIN,SFT,RL,SAMPLE,ROLLOUT,DEPLOY}_FLAGS; do
    local -n list=$name; hand "${name,,}" "${list[@]}"
  done
}

# launch KIND WORD...: becomes the launcher, which has Ctrl-C to itself then.
launch() { exec "${LAUNCH[@]}" "$1" "${HANDED[@]}" words "$(($# - 1))" "${@:2}"; }
# run_sft NAME [FLAGS] -- "$@"; the others likewise.
run_sft() { KIND=sft; use_profile; launch sft "$@"; }
run_grpo() { KIND=grpo; use_profile; launch grpo "$@"; }
run_ppo() { KIND=ppo; use_profile; launch ppo "$@"; }
run_on_profile() { KIND=''; use_profile; launch "$@"; }  # sample, rollout, deploy
