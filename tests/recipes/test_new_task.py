"""The task of docs/new_task.md, word for word, from a sheet to a trained and compared student; nothing of ours is edited for it."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from overtake.data.tables import read_rows

ROOT = Path(__file__).resolve().parents[2]
TEAMS = {"billing": "Why was invoice {} charged twice?", "shipping": "Where is parcel {}?", "returns": "I want to send item {} back."}
CHATTY = 4
"""Every fourth answer of the teacher has more words than the team's name."""


@pytest.fixture
def page() -> str:
    return (ROOT / "docs/new_task.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, page: str) -> Path:
    """A folder of a user's own: the task of the page, and a sheet of 60 messages."""
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 65
    (tmp_path / "my_task.py").write_text(code, encoding="utf-8")
    with (tmp_path / "tickets.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "message", "team"])
        lines.writerows([f"{team}{at}", text.format(100 + at), team] for team, text in TEAMS.items() for at in range(20))
    return tmp_path


@pytest.fixture
def teacher(serve: Any) -> Any:
    """A teacher, and a student, that knows the team by a word of the message, on a real port."""

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        message = body["messages"][-1]["content"]
        team = next(team for team, text in TEAMS.items() if text.partition("{}")[0] in message)
        number = re.search(r"\d+", message)
        if number and int(number[0]) % CHATTY == 0 and body["model"] != "student":
            team = f"It is {team}, I think."
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": team}}
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "t", "choices": [choice], "usage": usage}

    return serve(answer)


@pytest.fixture
def tool(folder: Path, teacher: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """tool("generate", *words) runs a tool in the user's folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"OVERTAKE_TEACHER_BASE_URL": f"{teacher.url}/v1", "OVERTAKE_TEACHER_MODEL": "t", "OVERTAKE_CACHE_DIR": str(folder / "cache")}
    env |= {"PYTHONPATH": str(ROOT / "plugin"), "PROFILE": "cpu"}

    def run(name: str, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / f"tools/{name}.py"), *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def converted(tool: Callable[..., Any], folder: Path) -> Path:
    """The folder of the training files, made as the page says."""
    tool("generate", "tickets.csv", "answered.jsonl", "--task", "my_task.py")
    tool("convert", "answered.jsonl", "data", "--task", "my_task.py")
    return folder / "data"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_teacher_answers_and_sft_gets_only_what_is_right(tool: Callable[..., Any], folder: Path, converted: Path) -> None:
    answered = read_rows(folder / "answered.jsonl")
    assert len(answered) == 60 and answered[1]["teacher_output"] == "billing"
    assert answered[0]["teacher_output"] == "It is billing, I think."
    counts = {name: len(lines(converted / f"{name}.jsonl")) for name in ("train", "val", "rl_train", "rl_val", "test")}
    assert (counts["rl_train"], counts["rl_val"], counts["test"]) == (48, 6, 6)
    assert 0 < counts["train"] < 48 and 0 < counts["val"] <= 6
    learnt = lines(converted / "train.jsonl")
    assert {row["messages"][-1]["content"] for row in learnt} == set(TEAMS)
    assert [turn["role"] for turn in lines(converted / "rl_train.jsonl")[0]["messages"]] == ["system", "user"]
    assert lines(converted / "test.jsonl")[0].keys() == {"messages", "triage_id", "triage_message", "triage_team"}


def test_a_row_that_its_class_refuses_is_rejected_with_the_reason(tool: Callable[..., Any], folder: Path) -> None:
    with (folder / "tickets.csv").open("a", encoding="utf-8") as file:
        file.write("odd,Who are you?,sales\n")
    done = tool("generate", "tickets.csv", "answered.jsonl", "--task", "my_task.py", "--limit", 3)
    [odd] = read_rows(folder / "answered.jsonl.rejected.jsonl")
    assert (odd["id"], odd["reason"]) == ("odd", "team 'sales' is none of billing, shipping, returns")
    assert "3 rows answered, 1 rejected" in done.stdout
    done = tool("generate", "tickets.csv", "answered.jsonl", "--task", "none.py", code=2)
    assert "none.py is no file" in done.stderr


def test_the_doctor_tries_its_rewards_and_finds_a_reward_that_pays_for_words(
    tool: Callable[..., Any], folder: Path, converted: Path
) -> None:
    words = ("--task", "my_task.py", "--data", converted / "rl_train.jsonl", "--only-attacks", "--json")
    found = {one["what"]: one["level"] for one in json.loads(tool("doctor", *words).stdout)["findings"]}
    assert found["honest answers"] == found["attack: copied"] == found["attack: injecting"] == found["attack: keyword-stuffed"] == "ok"
    code = (folder / "my_task.py").read_text(encoding="utf-8")
    loose = code.replace("answer.strip().lower() == team", "team in answer.strip().lower()")
    assert loose != code
    (folder / "my_task.py").write_text(loose, encoding="utf-8")
    found = {one["what"]: one["level"] for one in json.loads(tool("doctor", *words, code=1).stdout)["findings"]}
    assert found["attack: keyword-stuffed"] == found["attack: hedging"] == "error"


def test_candidates_are_compared_and_the_gate_goes_by_what_the_task_says(
    tool: Callable[..., Any], folder: Path, converted: Path, teacher: Any
) -> None:
    held_out = lines(converted / "test.jsonl")
    answers = [{"id": row["triage_id"], "answer": f"{row['triage_team']} or so"} for row in held_out]
    (folder / "wordy.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers), encoding="utf-8")
    systems = ["--system", f"plain=student@{teacher.url}/v1", "--system", "wordy=wordy.jsonl", "--against", "wordy"]
    said = tool("evaluate", "data/test.jsonl", "eval", "--task", "my_task.py", *systems).stdout
    assert "right" in said and "chatty" in said
    summary = json.loads((folder / "eval/summary.json").read_text("utf-8"))
    assert {name: [of[one]["mean"] for one in ("right", "chatty")] for name, of in summary["means"].items()} == {
        "plain": [1.0, 0.0],
        "wordy": [0.0, 1.0],
    }
    assert (summary["task"], summary["metrics"]["chatty"]) == (
        "triage",
        {"en": "more than a word, %", "zh": "多余的话，%", "better": "down"},
    )
    refused = tool("gate", "eval/summary.json", folder, "--start", "plain", "--metric", "chatty", code=1).stdout
    assert refused == "wordy is worse than plain: chatty +1.000 [+1.000,+1.000]\n"
    asked = tool("ask", "Where is parcel 7?", "--task", "my_task.py", "--base-url", f"{teacher.url}/v1").stdout
    assert asked == "question: Where is parcel 7?\nshipping\n"
    assert teacher.requests[-1].body["model"] == "triage" and teacher.requests[-1].body["max_tokens"] == 8


def plugins(folder: Path) -> list[str]:
    return ["--external_plugins", str(ROOT / "plugin/register.py"), str(folder / "my_task.py")]


RL = ["--reward_funcs", "right_team", "--reward_weights", "1", "--max_completion_length", "8"]


def test_recipes_take_it_and_serve_it_with_its_own_numbers(folder: Path, command: Any, page: str) -> None:
    for recipe, flags in (("sft_qwen32b", []), ("grpo_rag", RL)):
        _, words = command(recipe, *plugins(folder), *flags, PROFILE="1x24g", DATASET=folder / "x.jsonl", OUTPUT_DIR=folder / "out")
        at = words.index("--external_plugins")
        assert words[at : at + 3] == plugins(folder)
        # The page's own command differs from this one in paths alone.
        [line] = re.findall(rf"^bash recipes/{recipe}\.sh (.*)$", page, re.MULTILINE)
        assert shlex.split(line)[3:] == flags
    _, words = command("deploy", PROFILE="1x24g", SYSTEM=folder / "my_task.py")
    assert [words[words.index(flag) + 1] for flag in ("--served_model_name", "--max_new_tokens", "--temperature")] == ["triage", "8", "0"]
    assert words[words.index("--model") + 1].endswith("output/triage/grpo/checkpoint-LAST-merged")


@pytest.mark.slow
def test_a_tiny_student_learns_it_by_sft_and_grpo(
    folder: Path, converted: Path, tiny: Path, tool: Callable[..., Any], environment: Any
) -> None:
    """Two real steps of each, about two minutes on two cores."""

    def train(recipe: str, out: str, *flags: str, **settings: object) -> Path:
        own = {"PROFILE": "cpu", "TUNER": "full", "OUTPUT_DIR": folder / out, "OVERTAKE_CACHE_DIR": folder / "cache", **settings}
        words = ["--model_type", "qwen3", "--template", "qwen3", "--max_steps", "2", "--save_steps", "2", "--eval_strategy", "no"]
        words += ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--logging_steps", "1"]
        done = subprocess.run(
            ["bash", str(ROOT / f"recipes/{recipe}.sh"), *plugins(folder), *words, *flags],
            env=environment(**own),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return folder / out / "checkpoint-2"

    # A model of one's own has the chat form of its training with it.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny / "tiny")
    tokenizer.chat_template = (
        "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    tokenizer.save_pretrained(tiny / "tiny")
    sft = train("sft_qwen32b", "sft", MODEL=tiny / "tiny", DATASET=converted / "train.jsonl")
    grpo = train("grpo_rag", "grpo", *RL, SFT_ADAPTER=sft, DATASET=converted / "rl_train.jsonl")
    steps = [line for line in lines(folder / "grpo/logging.jsonl") if "rewards/RightTeam/mean" in line]
    assert len(steps) == 2
    tool(
        "evaluate",
        "data/test.jsonl",
        "eval",
        "--task",
        "my_task.py",
        "--system",
        f"SFT={sft}",
        "--system",
        f"GRPO={grpo}",
        "--against",
        "GRPO",
    )
    summary = json.loads((folder / "eval/summary.json").read_text("utf-8"))
    assert summary["rows"] == {"SFT": 6, "GRPO": 6} and set(summary["means"]["GRPO"]) == {"right", "chatty"}
    assert len(lines(folder / "eval/answers_GRPO.jsonl")) == 6
