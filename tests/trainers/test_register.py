"""What `--external_plugins plugin/register.py` does: from any folder, twice, quickly and without a word."""

import json
import subprocess
import sys
from pathlib import Path

import overtake

PLUGIN = Path(__file__).resolve().parents[2] / "plugin" / "register.py"

CODE = """
import contextlib, io, json, sys
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
    before = {*sys.modules}
    import overtake
    light = {*sys.modules}
    import_external_file(sys.argv[1])
    loaded = [sorted(light - before), sorted({*sys.modules} - light)]
    first = state()
    import runpy
    runpy.run_path(sys.argv[1])
made = {name: type(orms[name](args=None)).__name__ for name in orms if getattr(orms[name], "__module__", "").startswith("overtake.")}
print(json.dumps({"heard": heard.getvalue(), "loaded": loaded, "same": first == state(), "state": first, "made": made}))
"""
LIGHT = {
    *("overtake.data", "overtake.data.dataset_names", "overtake.data.outputs"),
    *("overtake.trainers", "overtake.trainers.ppo_arguments", "overtake.trainers.one_completion", "overtake.trainers.on_cpu"),
    "overtake.trainers.all_tokens",
    "overtake.trainers.mixed_lengths",
}
"""Modules that registering imports beside ms-swift's and the package's own few, which need the standard library alone."""


def test_registering_is_quick_silent_and_can_be_repeated(tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, str(PLUGIN)], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["heard"] == ""
    assert found["same"]
    package, more = ({name for name in names if name.partition(".")[0] not in sys.stdlib_module_names} for names in found["loaded"])
    assert {name.partition(".")[0] for name in package} == {"overtake"}
    more = {name for name in more if not name.startswith("_swift_external_")}  # the plugin's file itself
    assert more == LIGHT, "what a reward, a dataset or a callback needs is imported when one is made, not in every process"
    rewards, process_rewards, datasets, callbacks, trainer = found["state"]
    assert set(overtake.REWARDS) <= set(rewards)
    assert set(overtake.REWARDS) <= set(process_rewards)
    assert set(overtake.DATASETS) <= set(datasets)
    assert set(overtake.CALLBACKS) <= set(callbacks)
    assert trainer == overtake.TRAINERS["grpo"]
    assert len(set(found["made"].values())) == len(overtake.REWARDS), "the class name is the metric's name"


def test_a_dataset_is_nothing_but_its_loader_for_the_rest_of_it_is_not_looked_at():
    from swift.dataset import DatasetMeta

    for name, target in overtake.DATASETS.items():
        made = overtake.load(target)()
        assert made == DatasetMeta(dataset_name=name, loader=made.loader, preprocess_func=made.preprocess_func)


def test_the_trainer_is_importable_as_ms_swift_imports_it():
    module, _, name = overtake.TRAINERS["grpo"].rpartition(".")
    assert overtake.load(f"{module}:{name}").__mro__[1].__module__.startswith("swift.")
