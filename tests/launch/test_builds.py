"""A lock on DeepSpeed's builds is taken away when its holder is dead, and only then."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from overtake.launch import builds

HOLD = """import sys
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print(flush=True)
sys.stdin.read()"""


@pytest.mark.parametrize(
    ("variable", "place"), [("TORCH_EXTENSIONS_DIR", "op/lock"), ("XDG_CACHE_HOME", "torch_extensions/py311_cpu/op/lock")]
)
def test_torchs_own_lock_is_left_alone_while_its_holder_lives_and_goes_with_it(variable: str, place: str, tmp_path: Path) -> None:
    lock = tmp_path / place
    lock.parent.mkdir(parents=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    assert builds.clear_locks({variable: str(tmp_path)}) == [] and lock.exists()
    holder.kill()
    holder.communicate()
    assert builds.clear_locks({variable: str(tmp_path), "NNODES": "2"}) == [] and lock.exists(), "another machine may hold it"
    assert builds.clear_locks({variable: str(tmp_path)}) == [lock] and not lock.exists()


def test_where_machines_share_a_home_an_old_lock_goes(tmp_path: Path) -> None:
    lock = tmp_path / "op/lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (0, time.time() - 3600))
    assert builds.clear_locks({"TORCH_EXTENSIONS_DIR": str(tmp_path), "NNODES": "2"}) == [lock]


def test_nothing_compiled_is_nothing_to_do(tmp_path: Path) -> None:
    assert builds.clear_locks({}) == builds.clear_locks({"TORCH_EXTENSIONS_DIR": str(tmp_path)}) == []
