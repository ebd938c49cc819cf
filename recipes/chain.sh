#!/usr/bin/env bash
# shellcheck disable=SC2034
# What the chains of recipes share: a folder of their own, services that end with them, stages, progress.
#
#   CHAIN=quickstart; source "$(dirname "${BASH_SOURCE[0]}")/chain.sh"
#   claim FOLDER WHAT FRESH; enter
#
# Sourcing does nothing yet: what a chain refuses, it refuses before it writes or installs anything.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { echo "error: $*" >&2; exit 2; }

# claim FOLDER WHAT FRESH: FOLDER becomes OUT, of this chain on WHAT alone; with FRESH=1 what an earlier run left there goes.
claim() {
  OUT=$1
  local mark=$1/.$CHAIN what=$2 fresh=$3
  if [[ -d $OUT && ! -f $mark && -n $(ls -A "$OUT") ]]; then die "$OUT holds files that are not of a $CHAIN run. Name another folder with --out"; fi
  mkdir -p "$OUT"
  # Two runs in one folder would write over each other.
  exec 8>>"$mark"
  flock -n 8 || die "another $CHAIN is at work in $OUT"
  if ((fresh)); then find "$OUT" -mindepth 1 -maxdepth 1 ! -name ".$CHAIN" -exec rm -rf {} +; : >"$mark"; fi
  [[ ! -s $mark || $(<"$mark") == "$what" ]] ||
    die "$OUT holds a run on $(<"$mark"), not on $what. Name another folder with --out, or forget that run with --fresh"
  echo "$what" >"$mark"
  mkdir -p "$OUT/log"
}

# The environment, installed where there is none; the project's folder; children end with this script, however it ends.
enter() {
  if [[ ! -x ${VIRTUAL_ENV:-/nowhere}/bin/swift ]]; then
    bash "$ROOT/install.sh"
    # shellcheck source=/dev/null
    source "$ROOT/.venv/bin/activate"
  fi
  cd "$ROOT"
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# A chain of STAGES that can be entered and left at any of them. LEAVES[stage] names what it leaves in OUT.
declare -A LEAVES=()
place() { local at; for at in "${!STAGES[@]}"; do if [[ ${STAGES[at]} == "$1" ]]; then echo "$at"; return; fi; done; }
# stage_option --from|--to NAME: sets from or to.
stage_option() { [[ -n $(place "${2:-}") ]] || die "$1 ${2:-}: the stages are ${STAGES[*]}"; printf -v "${1#--}" %s "$2"; }
# forget_from STAGE: what it and all behind it left is taken away.
forget_from() {
  local name what
  for name in "${STAGES[@]:$(place "$1")}"; do
    for what in ${LEAVES[$name]}; do rm -rf "${OUT:?}/$what"; done
  done
}
# stop_after STAGE: ends the chain where --to says.
stop_after() { if [[ $to == "$1" ]]; then echo; echo "done up to $1: $OUT"; exit; fi; }

services=()
stop() {
  trap '' INT TERM
  local pid
  for pid in ${services[@]+"${services[@]}"}; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in ${services[@]+"${services[@]}"}; do
    for _ in {1..50}; do kill -0 -- "-$pid" 2>/dev/null || break; sleep 0.2; done
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}

# private LOG: an empty file that its owner alone may read, for a log of what users ask.
private() { : >"$1"; chmod 600 "$1"; }
# start NAME COMMAND...: a service in a process group of its own; its URL comes through a ready file.
start() {
  local service=$1 ready=$OUT/log/$1.url; shift
  rm -f "$ready"; private "$OUT/log/$service.log"
  set -m; "$@" --port 0 --ready-file "$ready" </dev/null >"$OUT/log/$service.log" 2>&1 8<&- & services+=($!); set +m
  for _ in {1..300}; do
    [[ -s $ready ]] && { URL=$(<"$ready"); return; }
    kill -0 "${services[-1]}" 2>/dev/null || die "$service did not start: $(tail -n 3 "$OUT/log/$service.log")"
    sleep 0.2
  done
  die "$service was not ready within a minute; see $OUT/log/$service.log"
}

# deploy ENVIRONMENT...: recipes/deploy.sh on a free port, ready; its address is URL. A tiny student answers before vLLM would have started.
deploy() {
  local port; port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  set -m; env -u API_KEY INFER=transformers "$@" PORT="$port" bash recipes/deploy.sh </dev/null >"$OUT/log/deploy.log" 2>&1 8<&- & services+=($!); set +m
  URL=http://127.0.0.1:$port
  local started=$SECONDS
  until python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/v1/models", timeout=2)' "$URL" 2>/dev/null; do
    kill -0 "${services[-1]}" 2>/dev/null || die "deploy ended: $(tail -n 5 "$OUT/log/deploy.log")"
    ((SECONDS - started < 1800)) || die "deploy is not ready; see $OUT/log/deploy.log"
    sleep 1
  done
}

# resist TASK ROWS [FLAG...]: honest answers and attacks through the rewards of RL; what would be learnt in place of the
# task stops the chain here. Flags go to tools/doctor.py.
resist() {
  local status=0
  [[ -s $OUT/doctor.txt ]] && return
  PROFILE=cpu python tools/doctor.py --task "$1" --data "$2" --only-attacks "${@:3}" >"$OUT/log/doctor.txt" || status=$?
  cat "$OUT/log/doctor.txt"
  ((status == 0)) || [[ ${DOCTOR:-1} == 0 ]] ||
    die "the doctor found what would spoil the training (above). Set it right, or go on regardless with DOCTOR=0"
  cp "$OUT/log/doctor.txt" "$OUT/doctor.txt"
}

stage() { echo; printf '== [%4d s] %s\n' "$SECONDS" "$*"; }
# quiet LOG COMMAND: a launcher's thousand lines go to a log, its progress to the screen, its last lines too when it fails.
quiet() {
  local log=$OUT/log/$1.log status=0; shift
  private "$log"
  set -m; "$@" </dev/null >"$log" 2>&1 8<&- & local pid=$!; set +m
  services+=("$pid")
  while kill -0 "$pid" 2>/dev/null; do
    printf '\r   %s' "$(progress "$log")"
    sleep 2
  done
  printf '\r%-78s\r' ''
  wait "$pid" || status=$?
  if ((status)); then tail -n 15 "$log" >&2; die "that step failed; the whole log: $log"; fi
}
progress() { local line; line=$(tail -c 400 "$1" 2>/dev/null | tr '\r' '\n' | grep -oE '[0-9]+/[0-9]+ \[[^]]*\]' | tail -n 1 || true); printf '%-74.74s' "${line:-starting ...}"; }
# The checkpoint of a run with the highest step; nothing when there is none.
last() {
  local name
  find "$1" -maxdepth 1 -type d -name 'checkpoint-*' -printf '%f\n' 2>/dev/null | grep -E '^checkpoint-[0-9]+$' | sort -t- -k2n | tail -n 1 |
  while read -r name; do echo "$1/$name"; done
}
# A run of a few steps has no curve to show, and that is no reason to stop.
curve() { python tools/curve.py "$1" || true; }
