"""What `--external_plugins plugin/register.py` does: from any folder, twice, quickly and without a word."""

import json
import subprocess
import sys
from pathlib import Path

import overtake

PLUGIN = Path(__file__).resolve().parents[2] / "plugin" / "register.py"

CODE = """
import contextlib, io, json, sys, time
from swift.callbacks import callbacks_map
from swift.dataset import register_dataset
from swift.dataset.dataset_meta import DATASET_MAPPING
from swift.rewards import orms, prms
from swift.trainers import TrainerFactory
from swift.utils import import_external_file

def state():
    return [sorted(orms), sorted(prms), sorted(map(str, DATASET_MAPPING)), sorted(callbacks_map), TrainerFactory.TRAINER_MAPPING["grpo"]]

heard = io.StringIO()
with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
    started = time.process_time()
    import_external_file(sys.argv[1])
    seconds = time.process_time() - started
    first = state()
    import runpy
    runpy.run_path(sys.argv[1])
made = {name: type(orms[name](args=None)).__name__ for name in orms if getattr(orms[name], "__module__", "").startswith("overtake.")}
print(json.dumps({"heard": heard.getvalue(), "seconds": seconds, "same": first == state(), "state": first, "made": made}))
"""


def test_registering_is_quick_silent_and_can_be_repeated(tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, str(PLUGIN)], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["heard"] == ""
    assert found["same"]
    assert found["seconds"] < 2, "of the processor; 0.05 s, beside ms-swift's own import of some 8 s"
    rewards, process_rewards, datasets, callbacks, trainer = found["state"]
    assert set(overtake.REWARDS) <= set(rewards)
    assert set(overtake.REWARDS) <= set(process_rewards)
    assert set(overtake.DATASETS) <= set(datasets)
    assert set(overtake.CALLBACKS) <= set(callbacks)
    assert trainer == overtake.TRAINERS["grpo"]
    assert len(set(found["made"].values())) == len(overtake.REWARDS), "the class name is the metric's name"


def test_the_trainer_is_importable_as_ms_swift_imports_it():
    module, _, name = overtake.TRAINERS["grpo"].rpartition(".")
    assert overtake.load(f"{module}:{name}").__mro__[1].__module__.startswith("swift.")
