"""The quickstart: what it refuses before it does anything, and (slow, some 35 minutes) all that it promises, run twice and interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from overtake.evaluation.curves import first_and_last_fifth, read_log
from overtake.evaluation.statistics import paired_difference

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes/quickstart.sh"
TRAINED = ("base", "sft", "grpo", "sft_long", "merged")


# ---------------------------------------------------------------- refusals

REFUSED = [
    pytest.param(["--nope"], "--nope is not known. There are: --tenant NAME, --corpus FOLDER, ", id="an unknown option"),
    pytest.param(["fivedoctors"], "fivedoctors is not known", id="a word that is no option"),
    pytest.param(["--tenant", "nobody"], "--tenant nobody is not shipped. There are: chengla fivedoctors", id="an unknown tenant"),
    pytest.param(["--tenant", "../query_rewrite"], "is not shipped", id="a tenant that is a path"),
    pytest.param(["--tenant", "."], "is not shipped", id="a tenant that is the folder of all"),
    pytest.param(["--tenant"], "--tenant needs a name", id="no tenant"),
    pytest.param(["--corpus"], "--corpus needs a folder", id="no corpus"),
    pytest.param(["--out"], "--out needs a folder", id="no output"),
    pytest.param(["--rl"], "--rl : grpo, ppo or both", id="no algorithm"),
    pytest.param(["--rl", "dpo"], "--rl dpo: grpo, ppo or both", id="an unknown algorithm"),
    pytest.param(["--model"], "--model needs a folder or a hub's name", id="no model"),
    pytest.param(["--model", "no/such/folder"], "no/such/folder is no folder and no name on a hub", id="a model that is nowhere"),
    pytest.param(["--model", "{empty}"], "holds no config.json", id="a folder without a model"),
    pytest.param(["--model", "{encoder}"], "is a BertModel, which writes no text", id="an architecture that writes nothing"),
    pytest.param(["--model", "{base}"], "has no chat template: it is a base model; take the instruct model", id="a base model"),
    pytest.param(["--model", "{huge}"], "GB of memory, ", id="a model too large for this machine"),
    pytest.param(["--model", "owner/name", "--minutes", "29"], "--minutes 29: at least 30", id="too few minutes"),
    pytest.param(["--model", "owner/name", "--minutes", "soon"], "--minutes soon: a number of minutes", id="no minutes"),
    pytest.param(["--model", "owner/name", "--rl", "ppo"], "--rl ppo with --model: GRPO only", id="PPO of a real model"),
    pytest.param(["--model", "owner/name", "--teacher-model", "{base}"], "has no chat template", id="a teacher without a chat template"),
    pytest.param(["--teacher-model", "owner/name"], "--teacher-model is for --model", id="a teacher without a student"),
    pytest.param(["--corpus", "nowhere"], "nowhere: no corpus.jsonl and queries.jsonl there", id="a corpus that is not there"),
    pytest.param(["--corpus", "{empty}"], "no corpus.jsonl and queries.jsonl there", id="a folder without a corpus"),
    pytest.param(["--corpus", "{unlabelled}"], "qrels", id="a corpus without labels"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_run_is_one_error_before_anything_is_installed_or_started(tmp_path, arguments, message):
    for name in ("empty", "unlabelled"):
        (tmp_path / name).mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / "unlabelled" / name).write_text('{"_id": "a", "text": "字"}\n')
    models = (("encoder", "BertModel", "x", 0), ("base", "LlamaForCausalLM", "", 0), ("huge", "LlamaForCausalLM", "x", 1))
    for name, kind, template, size in models:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architectures": [kind]}))
        if template:
            (tmp_path / name / "chat_template.jinja").write_text("<|im_start|>")
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size * 10**13)  # of 10 TB no block is written
    places = {name: tmp_path / name for name in ("empty", "unlabelled", "encoder", "base", "huge")}
    words = [argument.format(**places) for argument in arguments]
    # An installation that is begun all the same ends at once.
    env = {**os.environ, "PYTHON": "false", "OVERTAKE_STACK": "none", "VIRTUAL_ENV": ""}
    before = sorted((ROOT / "output").rglob("*")) if (ROOT / "output").exists() else None
    ended = subprocess.run(
        ["bash", str(RECIPE), "--out", str(tmp_path / "out"), *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()
    assert (sorted((ROOT / "output").rglob("*")) if (ROOT / "output").exists() else None) == before


def test_a_folder_of_somebody_else_is_not_emptied_by_fresh(tmp_path):
    (tmp_path / "mine.txt").write_text("years of work")
    env = {**os.environ, "PYTHON": "false", "OVERTAKE_STACK": "none", "VIRTUAL_ENV": ""}
    ended = subprocess.run(
        ["bash", str(RECIPE), "--out", str(tmp_path), "--fresh"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stderr.startswith("error: ")) == (2, True)
    assert (tmp_path / "mine.txt").read_text() == "years of work"


def test_help_says_how_to_run_it_and_does_nothing(tmp_path):
    ended = subprocess.run(["bash", str(RECIPE), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "bash recipes/quickstart.sh --tenant chengla" in ended.stdout
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the whole


def offspring(mark):
    """Ids and commands of all processes that were started, at whatever remove, with this mark in their environment."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"QUICKSTART_TEST={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


class Quickstart:
    """One run in a process group of its own, as a terminal starts it."""

    def __init__(self, out, mark, *flags):
        inside = (Path(sys.prefix) / "bin/swift").exists()
        env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_") or name == "OVERTAKE_STACK"}
        if inside:
            env |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{env['PATH']}"}
        self.mark, self.said = mark, out.parent / f"said_{mark}"
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                ["bash", str(RECIPE), "--out", str(out), *flags],
                env={**env, "QUICKSTART_TEST": mark},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
                # Where the tests run in the background SIGINT is ignored, which bash could not undo.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def ended(self, seconds):
        """(exit status, what was printed)."""
        status = self.process.wait(seconds)
        return status, self.said.read_text(encoding="utf-8")

    def wait_for(self, words, seconds):
        end = time.monotonic() + seconds
        while words not in self.said.read_text(encoding="utf-8"):
            assert self.process.poll() is None, self.said.read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < end, f"no {words!r} after {seconds} s"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def quickstart():
    """quickstart(out, mark, *flags) -> a run; what is left of it at the end is killed."""
    runs = []

    def quickstart(out, mark, *flags):
        runs.append(Quickstart(out, f"{mark}-{os.getpid()}", *flags))
        return runs[-1]

    yield quickstart
    for run in runs:
        for pid in offspring(run.mark):
            os.kill(pid, signal.SIGKILL)
        run.process.wait(60)


@pytest.fixture(scope="module")
def first(quickstart, tmp_path_factory):
    """The first run, on nothing: (its folder, what it printed, the processes it left)."""
    out = tmp_path_factory.mktemp("quickstart") / "out"
    run = quickstart(out, "first")
    status, said = run.ended(45 * 60)
    left = offspring(run.mark)
    assert status == 0, said[-5000:]
    return out, said, left


def ndcg(out, name):
    rows = map(json.loads, (out / f"eval/eval_details_{name}.jsonl").read_text("utf-8").splitlines())
    return {row["rag_query_id"]: row["ndcg@10"] for row in rows}


def state(out):
    """Every file of the training folders with its size and time."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for name in TRAINED for path in (out / name).rglob("*") if path.is_file()}


@pytest.mark.slow
def test_sft_learns_to_rewrite(first):
    out, _, _ = first
    difference = paired_difference(ndcg(out, "SFT"), ndcg(out, "untrained"))
    assert difference.mean > 0.1
    assert difference.low > 0


@pytest.mark.slow
def test_the_training_reward_of_grpo_rises(first):
    rewards = [row["reward"] for row in read_log(first[0] / "grpo") if "reward" in row]
    start, end = first_and_last_fifth(rewards)
    assert end > start


@pytest.mark.slow
def test_grpo_overtakes_every_other_system_on_held_out_questions(first):
    out, _, _ = first
    summary = json.loads((out / "eval/summary.json").read_text("utf-8"))
    assert summary["against"] == "GRPO"
    assert {"SFT", "SFT-long", "teacher", "untrained"} <= summary["differences"].keys()
    assert any("copy" in name for name in summary["differences"])
    assert len(set(summary["rows"].values())) == 1 and summary["rows"]["GRPO"] >= 200  # the same rows for all, none left out
    assert {name: values["ndcg@10"]["low"] for name, values in summary["differences"].items() if values["ndcg@10"]["low"] <= 0} == {}
    for name in ("SFT", "SFT-long", "teacher"):
        difference = paired_difference(ndcg(out, "GRPO"), ndcg(out, name))
        assert vars(difference) == pytest.approx(summary["differences"][name]["ndcg@10"])


@pytest.mark.slow
def test_the_merged_model_is_deployed_and_answers(first):
    out, said, _ = first
    assert (out / "merged/config.json").is_file() and list((out / "merged").glob("*.safetensors"))
    assert not (out / "merged/adapter_config.json").exists()
    lines = said.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("question: "))
    assert lines[at + 1].removeprefix("rewrite:").strip()
    assert lines[at + 2].startswith("the question finds: ") and lines[at + 3].startswith("the rewrite finds: ")


@pytest.mark.slow
def test_its_last_words_are_a_gain_a_tie_and_a_loss_with_documents(first):
    out, said, _ = first
    words = said[said.index("Everything lies in ") :]
    head = next(line for line in words.splitlines() if line.startswith("GRPO against original query, "))
    better, same, worse = (int(head.split(f" {name}")[0].split()[-1]) for name in ("better", "same", "worse"))
    assert better + same + worse == len(ndcg(out, "GRPO")) and better > worse
    for name, count in (("better", better), ("same", same), ("worse", worse)):
        assert f"{name} ({count} of {better + same + worse})" in words
    assert words.count("    retrieved: ") >= (better > 0) + (worse > 0), "who is better has found something; an empty list is not shown"


@pytest.mark.slow
def test_no_process_is_left(first):
    assert first[2] == {}


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(first, quickstart):
    out, _, _ = first
    before = state(out)
    assert {path.relative_to(out).parts[0] for path in before} == set(TRAINED)
    run = quickstart(out, "second")
    status, said = run.ended(20 * 60)
    assert status == 0, said[-5000:]
    assert state(out) == before
    assert "rewrite: " in said
    assert offspring(run.mark) == {}


@pytest.mark.slow
@pytest.mark.release
def test_ppo_overtakes_sft_on_held_out_questions_and_stands_beside_grpo(first, quickstart, tmp_path):
    shutil.copytree(first[0], tmp_path / "out")
    status, said = quickstart(tmp_path / "out", "both", "--rl", "both").ended(45 * 60)
    assert status == 0, said[-5000:]
    out = tmp_path / "out"
    for name in ("SFT", "untrained", "teacher"):
        assert paired_difference(ndcg(out, "PPO"), ndcg(out, name)).low > 0, name
    table = (out / "eval/table.txt").read_text("utf-8")
    assert table.count("mean [95 % interval]") == 1
    assert "PPO - SFT " in table and "PPO - GRPO " in table and "GRPO - SFT " in table
    assert (out / "merged_ppo/config.json").is_file()
    start, end = first_and_last_fifth([row["reward"] for row in read_log(out / "ppo") if "reward" in row])
    assert end > start


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("RAG service: ", id="while services start"),
        pytest.param(
            "SFT (recipes/sft_qwen32b.sh)", id="in training", marks=pytest.mark.release
        ),  # a launcher in a process group of its own
    ],
)
def test_ctrl_c_leaves_no_process(quickstart, tmp_path, stage):
    run = quickstart(tmp_path / "out", f"ctrl-c-{stage[:3]}")
    run.wait_for(stage, 20 * 60)
    if stage.startswith("SFT"):
        time.sleep(15)  # the launcher and its workers
        assert any("swift" in command for command in offspring(run.mark).values())
    os.killpg(run.process.pid, signal.SIGINT)
    status, said = run.ended(60)
    assert status == 130, said[-3000:]
    assert "Traceback" not in said
    assert offspring(run.mark) == {}
