#!/usr/bin/env bash
# The tests, from a fresh clone: installs .venv if need be, then style, types and all tests that take less than minutes.
#   bash tests/run.sh                  # arguments go to pytest: bash tests/run.sh -k recipes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ! -x ${VIRTUAL_ENV:-/nowhere}/bin/swift ]]; then
  bash install.sh
  # shellcheck source=/dev/null
  source .venv/bin/activate
fi
ruff check
ruff format --check
mypy
# A process a core; tests of one file stay together, for they share what is dear to make.
python -m pytest -m "not slow" --numprocesses "$(nproc)" --dist loadfile "$@"
