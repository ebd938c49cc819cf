"""On-policy distillation really trains: the teacher's term of each token is what its logits say, worked out here from the recorded batches.

Two steps a run, two minutes on two idle cores. Run: python -m pytest -m slow tests/recipes/test_distilling.py
"""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from overtake.evaluation.curves import read_log

ROOT = Path(__file__).resolve().parents[2]

# Notes on each rank what the loss is given.
NOTING = """
import json, os
from pathlib import Path

import overtake
from overtake.trainers.grpo import GRPOTrainer
from swift.trainers import TrainerFactory


class Noting(GRPOTrainer):
    def _compute_loss(self, model, inputs, batch, origin_data=None):
        tensors = dict(ids=inputs["input_ids"], attended=inputs["attention_mask"], mask=batch.completion_mask)
        tensors |= dict(teacher=batch.teacher_per_token_logps, old=batch.old_per_token_logps, advantages=batch.advantages)
        note = {name: tensor.tolist() for name, tensor in tensors.items()} | dict(train=self.model.training)
        with (Path(os.environ["SEEN"]) / os.environ.get("RANK", "0")).open("a") as file:
            file.write(json.dumps(note) + "\\n")
        return super()._compute_loss(model, inputs, batch, origin_data)


overtake.register()
TrainerFactory.TRAINER_MAPPING["grpo"] = "noting.Noting"
"""
FLAGS = ["--max_steps", "2", "--save_steps", "2", "--eval_steps", "2", "--model_type", "qwen3", "--template", "qwen3"]
FLAGS += ["--max_completion_length", "8", "--max_length", "128", "--learning_rate", "1e-3", "--warmup_ratio", "0", "--logging_steps", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Path:
    """A random student and a random teacher of the same tokenizer, rows with and without what only a teacher knows."""
    from transformers import AutoConfig, Qwen3ForCausalLM

    made: Path = write_tiny(tmp_path_factory.mktemp("distilling"), {"rl_train": 16, "rl_val": 8})
    (made / "teacher").mkdir()
    for file in (made / "tiny").glob("tokenizer*"):
        shutil.copy(file, made / "teacher")
    torch.manual_seed(1)
    Qwen3ForCausalLM(AutoConfig.from_pretrained(made / "tiny")).save_pretrained(made / "teacher")
    for name in ("rl_train", "rl_val"):
        rows = [json.loads(line) for line in (made / f"{name}.jsonl").read_text().splitlines()]
        for row in rows:
            row["teacher_prompt"] = row["messages"][1]["content"] + " (answer: 42)"
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "noting.py").write_text(NOTING)
    return made


@pytest.fixture(scope="module")
def train(folder: Path, run: Any) -> Any:
    """train(name, *flags, **settings): a run's outcome and what each rank's loss was given, in the order of the steps."""

    def train(name: str, *flags: str, **settings: Any) -> tuple[subprocess.CompletedProcess[str], list[list[dict[str, Any]]]]:
        seen = folder / f"{name}-seen"
        seen.mkdir()
        plugins = ["--external_plugins", str(ROOT / "plugin/register.py"), "noting.py"]
        files = {"MODEL": "tiny", "SFT_ADAPTER": "none", "DATASET": "rl_train.jsonl", "OUTPUT_DIR": name, "SEEN": seen}
        ended = run("grpo_rag", *FLAGS, *plugins, *flags, cwd=folder, OMP_NUM_THREADS=1, **files, **settings)
        return ended, [[json.loads(line) for line in file.read_text().splitlines()] for file in sorted(seen.iterdir())]

    return train


@cache
def load(model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model)


def log_probabilities(model: Path, ids: list[int], temperature: float) -> torch.Tensor:
    """[tokens - 1]: what a model gives each token after those before it."""
    with torch.no_grad():
        logits = load(model)(torch.tensor([ids])).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def by_hand(batch: dict[str, Any], model: Path, temperature: float) -> list[list[float]]:
    """The teacher's log-probabilities of each row's scored tokens."""
    found = []
    for ids, attended, mask in zip(batch["ids"], batch["attended"], batch["mask"], strict=True):
        begin, end = len(ids) - len(mask) + mask.index(1), len(ids) - mask[::-1].index(1)
        assert sum(mask) == end - begin, "a completion in one piece"
        prompt = [token for token, there in zip(ids[:begin], attended, strict=False) if there]
        found.append(log_probabilities(model, prompt + ids[begin:end], temperature)[begin - end :].tolist())
    return found


def scored(batch: dict[str, Any], name: str) -> list[list[float]]:
    return [[value for value, there in zip(*row, strict=True) if there] for row in zip(batch[name], batch["mask"], strict=True)]


def k3(batches: list[dict[str, Any]]) -> float:
    """Mean over tokens of exp(d) - d - 1, d the teacher's less the student's log-probability."""
    pairs = [
        pair
        for batch in batches
        for row in zip(scored(batch, "teacher"), scored(batch, "old"), strict=True)
        for pair in zip(*row, strict=True)
    ]
    gaps = torch.tensor([teacher - student for teacher, student in pairs])
    return float((gaps.exp() - gaps - 1).mean())


def check_terms(batch: dict[str, Any], expected: list[list[float]]) -> None:
    """The batch's teacher is what is expected, and each token's advantage has its gap to the student, beside one number a completion."""
    for row, (told, hand) in enumerate(zip(scored(batch, "teacher"), expected, strict=True)):
        assert told == pytest.approx(hand, abs=2e-3)
        gaps = torch.tensor(told) - torch.tensor(scored(batch, "old")[row])
        of_reward = torch.tensor(scored(batch, "advantages")[row]) - gaps
        assert of_reward.tolist() == pytest.approx([of_reward[0].item()] * len(gaps), abs=1e-4)


def done(ended: subprocess.CompletedProcess[str]) -> None:
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


@pytest.mark.slow
def test_a_teacher_alone_is_learnt_from_one_completion_a_question(folder: Path, train: Any) -> None:
    ended, [seen] = train("alone", "--torch_dtype", "float32", "--bf16", "false", PROFILE="cpu", DISTILL_FROM="teacher", REWARD="none")
    done(ended)
    steps, held_out = [one for one in seen if one["train"]], [one for one in seen if not one["train"]]
    assert len(steps) == 2
    log = read_log(folder / "alone")
    for step, row in zip(steps, [row for row in log if "loss" in row], strict=True):
        assert len({tuple(ids) for ids in step["ids"]}) == len(step["ids"]) == 8, "eight questions"
        check_terms(step, by_hand(step, folder / "teacher", 0.7))
        assert row["teacher_kl"] == pytest.approx(k3([step]), rel=1e-3)
        assert "reward" not in row and "frac_reward_zero_std" not in row, "nothing is called a reward where there is none"
    assert steps[0]["advantages"] != steps[1]["advantages"]
    [measured] = [row["eval_teacher_kl"] for row in log if "eval_teacher_kl" in row]
    assert measured == pytest.approx(k3(held_out), rel=1e-3)
    state = json.loads((folder / "alone/checkpoint-2/trainer_state.json").read_text())
    assert state["best_metric"] == pytest.approx(measured) and state["best_model_checkpoint"].endswith("checkpoint-2")


@pytest.mark.slow
def test_gkd_trains_from_the_same_recipe(folder: Path, train: Any) -> None:
    flags = ["--rlhf_type", "gkd", "--lmbda", "1", "--torch_dtype", "float32", "--bf16", "false", "--eval_strategy", "no"]
    ended, _ = train("gkd", *flags, "--beta", "1", PROFILE="cpu", DISTILL_FROM="teacher", REWARD="none")
    done(ended)
    losses = [row["loss"] for row in read_log(folder / "gkd") if "loss" in row]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
