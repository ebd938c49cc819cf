"""A chain asks once more for what failed, goes on without a few rows, and ends where many have no answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = """\
echo asked >>"$2"
printf '{"id": "%s"}\\n' $(seq "$3") >"$1"
rm -f "$1.failed.jsonl"
if (($4)); then printf '{"reason": "%s"}\\n' $(seq "$4") >"$1.failed.jsonl"; fi
if [[ $(wc -l <"$2") == 2 && -n ${MENDED:-} ]]; then rm "$1.failed.jsonl"; exit 0; fi
exit "$5"
"""


def answered(folder, rows, failed, status, **settings):
    (folder / "tool.sh").write_text(TOOL)
    file, asked = folder / "rows.jsonl", folder / "asked"
    words = f'"{file}" bash "{folder}/tool.sh" "{file}" "{asked}" {rows} {failed} {status}'
    script = f'CHAIN=test; source "{ROOT}/recipes/chain.sh"; answered {words}; echo went on'
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "plugin")} | settings
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=env, capture_output=True, text=True, check=False)
    return done, len(asked.read_text().splitlines()) if asked.exists() else 0, file.exists()


@pytest.mark.parametrize(
    ("rows", "failed", "status", "settings", "asked", "words"),
    [
        pytest.param(9, 0, 0, {}, 1, "", id="all answered"),
        pytest.param(9, 1, 1, {"MENDED": "1"}, 2, "", id="answered when asked again"),
        pytest.param(5, 5, 1, {}, 2, "5 of 10 rows got no answer, twice: ", id="half without"),
    ],
)
def test_it_goes_on(tmp_path, rows, failed, status, settings, asked, words):
    done, times, there = answered(tmp_path, rows, failed, status, **settings)
    assert (done.returncode, times, there) == (0, asked, True), done.stderr
    assert done.stdout.endswith("went on\n") and words in done.stdout
    again, times, _ = answered(tmp_path, rows, failed, status)
    assert (again.returncode, times) == (0, asked), "what is there is not asked for again"


@pytest.mark.parametrize(
    ("rows", "failed", "status", "asked", "words"),
    [
        pytest.param(4, 6, 1, 2, "error: 6 of 10 rows got no answer, twice: ", id="over half without"),
        pytest.param(9, 1, 2, 1, "", id="a dead teacher"),
        pytest.param(9, 1, 130, 1, "", id="interrupted"),
    ],
)
def test_it_ends_and_the_next_run_asks_again(tmp_path, rows, failed, status, asked, words):
    done, times, there = answered(tmp_path, rows, failed, status)
    assert (done.returncode != 0, times, there) == (True, asked, False)
    assert words in done.stderr and "went on" not in done.stdout
