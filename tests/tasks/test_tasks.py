"""Every task is one whole object: what it names is there, what it measures is declared, and it is served as it was trained."""

import argparse
import re

import pytest
from overtake import settings, tasks
from overtake.data.tables import read_rows
from overtake.doctor.command import of_recipe
from overtake.task import DECLARED, Decoding, Metric, Task, load

from ..conftest import ROOT

TASKS = list(tasks.shipped().values())
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def test_a_folder_with_a_task_is_found_by_itself_and_the_default_stands_first():
    folders = {path.parent.name for path in (ROOT / "plugin/overtake/tasks").glob("*/__init__.py")}
    assert {task.name for task in TASKS} == folders
    assert next(iter(tasks.known())) == tasks.DEFAULT
    assert tasks.find("judge") is tasks.find("answer_judge") is tasks.known()["judge"]


@each_task
def test_all_that_a_task_names_is_there(task: Task):
    assert all(isinstance(reward.load(), type) for reward in task.rewards)
    assert all(callable(load(str(target))) for target in task.datasets.values())
    assert not task.row or isinstance(load(str(task.row)), type)
    for tool in task.stages:
        stage = task.stage(tool)
        assert stage.__doc__ and stage.add_arguments
    assert (ROOT / f"recipes/{task.recipe}.sh").is_file()
    assert not task.attacks.sample or (ROOT / "datasets" / task.attacks.sample).is_file()
    assert {name for reward in task.rewards for name in (reward.judged, reward.judge_weight) if name} <= set(settings.model().model_fields)
    assert all({reward.once, reward.judged_by} <= {"", *reward.columns} for reward in task.rewards)


@each_task
def test_every_measure_of_its_tables_is_declared_in_both_languages(task: Task):
    assert task.measures() and all(task.knows(name) for name in task.measures())
    assert task.main in next(iter(task.measured().values()))
    for name in next(iter(task.measured().values())):
        assert task.metric(name).english and task.metric(name).chinese


def test_no_profile_has_a_limit_or_a_thought_of_its_own():
    """So what holds with one profile, as the next test says, holds with all; each serves a window for a prompt and its answer."""
    longest = max(task.decoding.limit for task in tasks.shipped().values())
    for profile in sorted((ROOT / "recipes/profiles").glob("*.sh")):
        text = profile.read_text("utf-8")
        assert not re.search(r"--(max_new_tokens|max_completion_length|enable_thinking)\b", text), profile.name
        for deployed in re.findall(r"DEPLOY_FLAGS=\((.*?)\)", text, re.DOTALL):
            windows = re.findall(r"--vllm_max_model_len (\d+)", deployed)
            assert all(int(window) >= 2048 + longest for window in windows), profile.name


@each_task
def test_a_student_is_evaluated_and_served_with_the_tokens_that_its_training_allowed(task: Task, monkeypatch):
    monkeypatch.setenv("PROFILE", "4x80g")
    command = of_recipe(ROOT / f"recipes/{task.recipe}.sh")
    assert command.number("max_completion_length", 0) == task.decoding.limit
    assert command.get("enable_thinking") == str(task.decoding.thinking == "on").lower()
    served = [f"--max_new_tokens {task.decoding.limit}", f"--enable_thinking {command.get('enable_thinking')}"]
    assert " ".join(task.decoding.serving).endswith(" ".join(served))
    assert command.flags["reward_funcs"] and set(command.flags["reward_funcs"]) <= set(tasks.rewards())


@pytest.mark.parametrize("task", [task for task in TASKS if task.attacks.sample], ids=lambda task: task.name)
def test_its_rewards_read_columns_that_its_sample_has(task: Task):
    rows = task.attacks.rows(ROOT / "datasets" / task.attacks.sample)
    assert len(rows) > 20 and read_rows(ROOT / "datasets" / task.attacks.sample)
    for reward in task.rewards:
        assert set(reward.columns) <= set(rows[0])
    assert rows[0][task.attacks.id] and rows[0][task.attacks.question]
    assert task.attacks.honest(rows[0]) not in task.attacks.tricks(rows[0], rows[1]).values()


def test_a_settings_name_and_bounds_are_the_tasks(monkeypatch):
    settings.load.cache_clear()
    assert [settings.value(name) for name in ("finance_judge_share", "medical_judge_share", "medical_weight_rules")] == [1.0, 1.0, 0.6]
    for name, value in (("OVERTAKE_FINANCE_JUDGE_SHARE", "2"), ("OVERTAKE_MEDICAL_WEIGHT_TEACHER", "-1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            settings.load.cache_clear()
            with pytest.raises(settings.SettingsError, match=f"{name}='{value}': Input should be "):
                settings.value("judge_share")
    monkeypatch.setenv("OVERTAKE_FINANCE_JUDGE_SHAER", "0.5")
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match=r"no setting; OVERTAKE_FINANCE_JUDGE_SHARE is meant\?"):
        settings.load()
    monkeypatch.undo()
    settings.load.cache_clear()
    with pytest.raises(KeyError):
        settings.value("no_such_setting")


def test_a_tasks_settings_stand_in_the_yaml_file_too(monkeypatch, tmp_path):
    (tmp_path / "run.yaml").write_text("finance_judge_share: 0.25\nmedical_weight_rules: 1\n")
    monkeypatch.setenv("OVERTAKE_CONFIG", str(tmp_path / "run.yaml"))
    settings.load.cache_clear()
    assert (settings.value("finance_judge_share"), settings.value("medical_weight_rules")) == (0.25, 1.0)
    settings.load.cache_clear()


def test_a_metric_that_is_better_in_no_known_way_is_refused():
    with pytest.raises(ValueError, match="metric m: better='sideways' is none of up, down, neutral"):
        Metric("m", better="sideways")  # type: ignore[arg-type]


OWN = """
from overtake.task import Attacks, Decoding, Evaluation, Metric, Reward, Setting, Task
import overtake

TASK = Task(
    name={name!r}, rewards=(Reward({reward!r}, "builtins:object"),), metrics=(Metric("m"),), decoding=Decoding(8),
    evaluation=Evaluation("id", "a", (), {{}}, read=list, messages=list, measure=dict),
    attacks=Attacks("id", "q", rows=list, honest=str, tricks=dict), settings=(Setting("mine_share", 0.5, most=1.0),),
)
overtake.register(TASK)
"""


@pytest.fixture
def own(tmp_path):
    """own(name, reward) -> the file of a task of a user's own; forgotten at the end."""
    before, declared = dict(tasks._own), dict(DECLARED)

    def write(name="mine", reward="my_reward", code=OWN):
        file = tmp_path / f"{name}.py"
        file.write_text(code.format(name=name, reward=reward))
        return str(file)

    yield write
    for known, saved in ((tasks._own, before), (DECLARED, declared)):
        known.clear()
        known.update(saved)
    settings.load.cache_clear()


def test_a_task_of_a_file_is_found_by_its_path_and_its_setting_is_one(own, monkeypatch):
    settings.load.cache_clear()
    settings.load()
    task = tasks.find(own())
    assert (task.called, task.file.endswith("mine.py"), task.decoding) == ("mine", True, Decoding(8))
    assert tasks.find(own()).name == "mine" and list(tasks.known())[-1] == "mine"
    assert "my_reward" in tasks.rewards()
    monkeypatch.setenv("OVERTAKE_MINE_SHARE", "0.75")
    assert settings.value("mine_share") == 0.75


@pytest.mark.parametrize(
    ("name", "reward", "words"),
    [
        ("finance", "mine", "this package has a task of that name"),
        ("judge", "mine", "this package has a task of that name"),
        ("mine", "judge_verdict", "reward judge_verdict is one of judge"),
    ],
)
def test_a_name_that_is_taken_is_refused(own, name, reward, words):
    with pytest.raises(ValueError, match=words):
        tasks.find(own(name, reward))


def test_what_is_no_task_is_refused_with_the_tasks_there_are(own, tmp_path):
    with pytest.raises(ValueError, match="medecine is no task: there are query_rewrite, finance, judge, medical, or name the file"):
        tasks.find("medecine")
    with pytest.raises(ValueError, match="is no file: name the Python file that defines TASK"):
        tasks.find(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match="defines no TASK"):
        tasks.find(own(code="TASKS = []\n"))
    with pytest.raises(argparse.ArgumentTypeError, match=r"was never closed \(broken.py, line 1\)"):
        tasks.named(own(name="broken", code="TASK = (\nimport\n"))
