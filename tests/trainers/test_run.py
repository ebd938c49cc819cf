"""A real GRPO run on two ranks and a second one that goes on from its checkpoint (slow, some three minutes).

What console, logging.jsonl, TensorBoard and wandb show is the same, and is what the services were asked; the trace holds every sample.
wandb is a stub of the module, called by transformers' own callback; swanlab's is of the same kind.
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from overtake.rewards import trace
from overtake.tasks.query_rewrite.rescore import read, rescore

pytestmark = [pytest.mark.slow, pytest.mark.release]

ROOT = Path(__file__).resolve().parents[2]
QUERIES = [f"皮肤{word}吃啥好" for word in ("松", "干", "痒", "暗")]
TOKENS = (100, 20)
PRICE = (TOKENS[0] * 0.25 + TOKENS[1] * 2.0) / 1e6  # gpt-5-mini
OURS = ("rag", "abstain", "rewrite", "calls", "cache", "wait", "cost")
WANDB = {
    "wandb/__init__.py": """
import json, os
run = None
config = type("Config", (dict,), {"update": lambda self, *_, **__: None})()
define_metric = watch = termwarn = lambda *_, **__: None
class Run:
    id = name = url = "x"
    summary = {}
    _label = lambda self, **_: None
class Table:
    def __init__(self, **_): pass
def init(**_):
    global run
    run = Run()
def log(values, **_):
    with open(os.environ["FAKE_WANDB"], "a") as file:
        file.write(json.dumps({name: value for name, value in values.items() if not isinstance(value, Table)}) + "\\n")
""",
    "wandb/sdk/lib/config_util.py": "class ConfigError(Exception): pass\n",
}


def recalled(rewrite):
    """What the RAG service answers: a recall that follows from the rewrite's hash; every ninth rewrite is refused."""
    drawn = sha256(rewrite.encode()).digest()
    if drawn[1] % 9 == 0:
        return 422, {"detail": "no"}
    return 200, {"data": {"recall": [{"doc_id": str(byte), "reranker_score": byte / 255} for byte in drawn[: drawn[0] % 6]]}}


def judged(messages):
    """What the judge answers: points that follow from the messages' hash, for the same tokens always."""
    points = sha256(json.dumps(messages).encode()).digest()[0] % 6
    text = json.dumps({"综合得分": points, "评分理由": f"值{points}分"}, ensure_ascii=False)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": TOKENS[0], "completion_tokens": TOKENS[1]}
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "gpt-5-mini", "choices": [choice], "usage": usage}


@pytest.fixture(scope="module")
def services(serve_module):
    """Both services at one address; `asked` counts the requests to each."""
    asked, lock = Counter(), threading.Lock()

    def answer(body):
        of_rag = "rewritten_query" in body
        with lock:
            asked["rag" if of_rag else "judge"] += 1
        return recalled(body["rewritten_query"]) if of_rag else judged(body["messages"])

    return SimpleNamespace(url=serve_module(answer).url, asked=asked)


def row_of(at, query):
    columns = {"query_id": f"q{at}", "query": query, "tenant": "fivedoctors", "kb": "default", "gold": "", "profile": "", "history": ""}
    teacher = {"teacher_rewrite": "胶原蛋白肽", "teacher_recall": '[["t", 0.5]]', "teacher_judge": "3", "original_recall": ""}
    messages = [{"role": "system", "content": "改写"}, {"role": "user", "content": query}]
    return {"messages": messages, **{f"rag_{name}": value for name, value in (columns | teacher).items()}}


@pytest.fixture(scope="module")
def ended(services, tmp_path_factory):
    """What two runs showed: one of three steps, and one that went on from its checkpoint of step 2 and did step 3 again."""
    folder = tmp_path_factory.mktemp("run")
    made = [
        sys.executable,
        "-m",
        "demo.tiny_students.tiny_model",
        folder / "tiny",
        "--corpus",
        ROOT / "datasets/query_rewrite/fivedoctors",
    ]
    subprocess.run([*made, "--tenant", "fivedoctors", "--steps", "0", "--width", "32"], check=True, capture_output=True, cwd=ROOT)
    rows = "".join(json.dumps(row_of(at, query)) + "\n" for at, query in enumerate(QUERIES))
    for name in ("rl_train", "rl_val"):
        (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    for name, text in WANDB.items():
        (folder / "stub" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stub" / name).write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{folder / 'stub'}:{os.environ.get('PYTHONPATH', '')}",
        "FAKE_WANDB": str(folder / "wandb.jsonl"),
        **{"PROFILE": "cpu", "TUNER": "full", "SFT_ADAPTER": "none", "NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1"},
        **{"MODEL": "tiny", "DATASET": "rl_train.jsonl", "OUTPUT_DIR": "out"},
        "OVERTAKE_RAG_URL": services.url,
        "OVERTAKE_TEACHER_BASE_URL": f"{services.url}/v1",
        "OVERTAKE_TEACHER_MODEL": "gpt-5-mini",
        "OVERTAKE_JUDGE_SHARE": "0.5",
        "OVERTAKE_CACHE_DIR": str(folder / "cache"),
    }
    flags = ["--max_steps", "3", "--save_steps", "2", "--eval_steps", "2", "--max_completion_length", "6", "--temperature", "1.5"]
    flags += ["--use_cpu", "true", "--ddp_backend", "gloo", "--report_to", "tensorboard", "wandb", "--gradient_accumulation_steps", "2"]
    flags += ["--model_type", "qwen3", "--template", "qwen3"]

    def go(*more):
        command = ["bash", ROOT / "recipes/grpo_rag.sh", *flags, *more]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-20000:]
        return SimpleNamespace(out=folder / "out", said=done.stdout, asked=Counter(services.asked), **shown(folder))

    first = go()
    return first, go("--resume_from_checkpoint", "out/checkpoint-2")


def shown(folder):
    """What each place shows of each logged step and evaluation so far, in wandb's names."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = []
    for line in (folder / "out/logging.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "loss" in row or "eval_loss" in row:
            step = int(row["global_step/max_steps"].split("/")[0])
            log.append((step, {f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}": value for name, value in row.items()}))
    wandb = [json.loads(line) for line in (folder / "wandb.jsonl").read_text(encoding="utf-8").splitlines()]
    board = EventAccumulator(str(folder / "out/runs"), purge_orphaned_data=False).Reload()
    return {"log": log, "wandb": wandb, "board": {name: board.Scalars(name) for name in board.Tags()["scalars"]}}


def ours(row):
    """The names that this project adds to ms-swift's."""
    return {name: value for name, value in row.items() if name.split("/")[1] in OURS}


def summed(log, name):
    return sum(row.get(f"{mode}/{name}", 0) for _, row in log for mode in ("train", "eval"))


def mean(values):
    return sum(values) / len(values)


def test_calls_tokens_and_usd_are_those_of_the_services(ended):
    first, second = ended
    logs = first.log, second.log[len(first.log) :]
    for log, asked in zip(logs, (first.asked, second.asked - first.asked), strict=True):
        assert asked["rag"] > 0 and asked["judge"] > 0
        assert (summed(log, "calls/rag"), summed(log, "calls/judge")) == (asked["rag"], asked["judge"])
        assert summed(log, "cost/tokens") == asked["judge"] * sum(TOKENS)
        assert summed(log, "cost/usd") == pytest.approx(asked["judge"] * PRICE, abs=1e-7)
    for run in ended:
        totals = [row[name] for _, row in run.log for name in row if name.endswith("/cost/usd_total")]
        assert totals == sorted(totals)
        assert totals[-1] == pytest.approx(run.asked["judge"] * PRICE, abs=1e-7), "over both runs"


def test_every_place_shows_the_same(ended):
    run, _ = ended
    assert [step for step, _ in run.log] == [1, 2, 2, 3, 3]
    told = [row for row in run.wandb if "train/rag/win_rate" in row or "eval/rag/win_rate" in row]
    for (step, row), wandb in zip(run.log, told, strict=True):
        values = ours(row)
        assert {name.split("/")[1] for name in values} == set(OURS)
        assert ours(wandb) == pytest.approx(values, abs=1e-8)  # logging.jsonl holds eight decimals
        assert wandb["train/global_step"] == step
        for name, value in values.items():
            assert [event.value for event in run.board[name] if event.step == step] == [pytest.approx(value, abs=1e-6)], name
    assert "'rag/win_rate': " in run.said and "'calls/rag': " in run.said


def of_trace(samples):
    """What the board should show, from the trace's samples."""
    parts = {part: [one["parts"][part] for one in samples if one["parts"][part] is not None] for part in ("judge", "retrieval", "win")}
    scores = [one["rewards"]["RagCompetition"] for one in samples]
    refused = [one["retrieval_failed"] for one in samples]
    return {
        **{f"rag/{part}": mean(values) for part, values in parts.items() if values},
        "rag/win_rate": mean([value > 0 for value in parts["win"]]),
        "rag/student_quality": mean([one["quality"] for one in samples if one["quality"] is not None]),
        "rag/judged": mean([one["points"] is not None for one in samples]),
        "rag/abstained": mean([score is None for score in scores]),
        "abstain/http_4xx": mean([reason is not None and reason["kind"] == "http_422" for reason in refused]),
        "rewrite/length": mean([len(one["rewrite"]) for one in samples]),
        "rewrite/stuffing": mean([one["fault"] == "stuffing" for one in samples]),
        "rewards/RewriteRules/mean": mean([one["rewards"]["RewriteRules"] for one in samples]),
    }


def test_the_trace_holds_every_sample_of_both_ranks_and_says_what_the_board_shows(ended):
    first, second = ended
    found = trace.read(second.out / trace.FILE)
    groups = {}
    for one in found.samples:
        groups.setdefault((one["step"], one["mode"]), []).append(one)
    assert list(groups) == [(1, "train"), (2, "train"), (2, "eval"), (3, "train"), (3, "eval")]
    log = first.log[:3] + second.log[len(first.log) :]
    for (place, samples), (step, row) in zip(groups.items(), log, strict=True):
        assert place[0] == step
        # Two ranks, batches of 8, two of them accumulated; evaluation: 4 questions of 8.
        assert [one["sample"] for one in samples] == list(range(32))
        assert list(Counter(one["group"] for one in samples).values()) == [8] * 4
        assert {one["query"] for one in samples} == set(QUERIES)
        expected = of_trace(samples)
        assert {name: row.get(f"{place[1]}/{name}", 0.0) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert len(found.runs) == 2
    assert {one["run"] for one in groups[2, "eval"]} == {min(found.runs)}
    assert {one["run"] for one in groups[3, "train"]} == {max(found.runs)}, "step 3 was done again"
    lines = (second.out / trace.FILE).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + 5 * 32 + 2 * 32, "and the file still holds how it was done first"


def test_scoring_the_trace_again_with_the_same_weights_gives_the_same_totals(ended):
    found = read(ended[1].out / trace.FILE)
    for one in rescore(found, {}):
        assert one.total == one.sample["total"]
        assert one.rewards == one.sample["rewards"]
    again = rescore(found, {"judge": 0.0}, [1.0, 0.0])
    changed = [one.total != one.sample["total"] for one in again]
    assert any(changed) and not all(changed), "the judge scored half of the groups"
