"""`swift rlhf` really trains a tiny model with a reward that abstains by plan, on one rank and on two (slow, a minute each)."""

import inspect
import json
import math
import os
import re
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from swift.rl_core.advantage import compute_advantages

ROOT = Path(__file__).resolve().parents[2]
SIZE = 4
# Twelve completions a step, three groups of four: with two ranks of six the second group lies on both.
FLAGS = """
    --rlhf_type grpo --model_type qwen3 --template qwen3 --tuner_type lora --torch_dtype float32 --fp16 false --bf16 false
    --use_cpu true --ddp_backend gloo --check_model false --add_version false --truncation_strategy left --max_length 256
    --num_generations 4 --max_completion_length 6 --temperature 1.0 --learning_rate 0 --max_steps 2 --logging_steps 1
    --save_strategy no --log_completions true --beta 0.04 --reward_funcs planned_first planned_second --reward_weights 1.0 0.25
    --gradient_checkpointing false --dataloader_num_workers 0 --seed 7
"""


def plan(text: str, place: int) -> tuple[float | None, float | None]:
    """Two rewards of a completion to the question at this place: of the first the one is missing, of the second both."""
    number = zlib.crc32(text.encode())
    first = None if place < 2 or number % 3 == 0 else number // 3 % 9 / 8
    second = None if place == 1 else number // 27 % 3 / 2
    return first, second


PLUGIN = f"""
import json, os, zlib
from pathlib import Path
import overtake
from overtake.trainers.grpo import GRPOTrainer
from swift.rewards import orms
from swift.trainers import TrainerFactory

{inspect.getsource(plan)}

class PlannedFirst:
    part = 0

    def __init__(self, args=None, **_):
        pass

    def __call__(self, completions, place, **columns):
        return [plan(*row)[self.part] for row in zip(completions, place)]

class PlannedSecond(PlannedFirst):
    part = 1

class Recording(GRPOTrainer):
    def _compute_loss(self, model, model_inputs, grpo_batch, origin_data=None):
        seen = dict(
            mode="train" if self.model.training else "eval",
            advantages=grpo_batch.advantages[:, 0].tolist(),
            tokens=grpo_batch.completion_mask.sum(1).tolist(),
            all_tokens=grpo_batch.num_items_in_batch.item(),
            order=self._order,
        )
        with (Path(self.args.output_dir) / f"seen_{{self.accelerator.process_index}}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\\n")
        return super()._compute_loss(model, model_inputs, grpo_batch, origin_data)

overtake.register()
orms.update(planned_first=PlannedFirst, planned_second=PlannedSecond)
TrainerFactory.TRAINER_MAPPING["grpo"] = "planned.Recording"
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory, student):
    """A random tiny Qwen3, six questions, which are two steps, and the plugin."""
    folder = tmp_path_factory.mktemp("planned")
    (folder / "model").symlink_to(student())
    rows = [{"messages": [{"role": "user", "content": f"{place} 问"}], "place": place} for place in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "planned.py").write_text(PLUGIN, encoding="utf-8")
    return folder


def train(base, out, ranks, *flags):
    """What was logged for each step, what was written and earned in each, and what each rank's loss saw."""
    swift = Path(sys.executable).parent / "swift"
    with socket.socket() as probe:  # torchrun's own choice is 29500, whoever holds it
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = ["--model", base / "model", "--dataset", base / "rows.jsonl", "--external_plugins", base / "planned.py", "--output_dir", out]
    env = {
        **os.environ,
        "NPROC_PER_NODE": str(ranks),
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    words = [str(swift), "rlhf", *FLAGS.split(), *map(str, files), *flags]
    done = subprocess.run(words, cwd=base, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def read(name):
        return [json.loads(line) for line in (out / name).read_text(encoding="utf-8").splitlines()]

    logged = [line for line in read("logging.jsonl") if "reward" in line]
    assert len(logged) == 2
    # The summary at the end repeats the last one's completions.
    return logged, read("completions.jsonl")[:-1], [read(f"seen_{rank}.jsonl") for rank in range(ranks)]


def groups(table):
    """(place, rewards by the plan) of each group in a line of completions.jsonl, which must show the same."""
    places = [int(re.search(r"(\d+) 问", prompt)[1]) for prompt in table["prompt"]]
    planned = [plan(*row) for row in zip(table["completion"], places, strict=True)]
    for part, name in enumerate(("PlannedFirst", "PlannedSecond")):
        expected = [math.nan if values[part] is None else values[part] for values in planned]
        assert table[name] == pytest.approx(expected, nan_ok=True)
    assert len(planned) == 3 * SIZE
    for start in range(0, len(planned), SIZE):
        assert len(set(places[start : start + SIZE])) == 1
        yield places[start], planned[start : start + SIZE]


def totals(rewards):
    """The measured members of a group and their sums: 1 and .25, or 1.25 where all lack the first, or nothing."""
    if all(first is None for first, _ in rewards):
        return [(member, 1.25 * second) for member, (_, second) in enumerate(rewards) if second is not None]
    return [(member, first + 0.25 * second) for member, (first, second) in enumerate(rewards) if first is not None]


def alone(table, **options):
    """ms-swift's advantages of one group of just these."""
    values = [value for _, value in table]
    return compute_advantages(torch.tensor(values)[:, None], torch.ones(1), len(values), **options)[0] if values else torch.zeros(0)


def lay_out(tables):
    """The measured rows of a step of three groups."""
    return [SIZE * number + member for number, table in enumerate(tables) for member, _ in table]


def by_row(used, name):
    """What the batches of a step held of each row, rows as they were written: batches are cut by length."""
    values = [value for one in used for value in one[name]]
    return [value for _, value in sorted(zip(used[0]["order"] or range(len(values)), values, strict=True))]


@pytest.mark.slow
def test_on_one_rank_training_and_evaluation_use_the_advantages_of_the_measured_alone(base, tmp_path):
    flags = ["--per_device_train_batch_size", "6", "--gradient_accumulation_steps", "2", "--loss_type", "dapo", "--eval_strategy", "steps"]
    flags += ["--eval_steps", "2", "--per_device_eval_batch_size", "12", "--val_dataset", str(base / "rows.jsonl")]
    logged, written, [seen] = train(base, tmp_path / "out", 1, *flags)
    assert len(written) == 3, "two steps and an evaluation"
    trained = [one for one in seen if one["mode"] == "train"]
    met = []
    for number, table in enumerate(written):
        met += [place for place, _ in groups(table)]
        tables = [totals(rewards) for _, rewards in groups(table)]
        expected = torch.zeros(12)
        expected[lay_out(tables)] = torch.cat([alone(measured) for measured in tables])
        assert table["advantages"] == pytest.approx(expected.tolist(), abs=1e-4)
        # What the loss saw: of a step two batches of six, of the evaluation its last one.
        used = trained[2 * number : 2 * number + 2] if number < 2 else seen[-1:]
        assert by_row(used, "advantages") == table["advantages"]
        tokens = by_row(used, "tokens")
        assert [row for row in range(12) if tokens[row]] == lay_out(tables)
        assert {one["all_tokens"] for one in used} == {sum(tokens)}
        if number < 2:
            values = [value for measured in tables for _, value in measured]
            assert logged[number]["reward"] == pytest.approx(sum(values) / len(values))
            silent = sum(math.isnan(value) for value in table["PlannedFirst"])
            assert logged[number]["reward_abstain/PlannedFirst"] == pytest.approx(silent / 12)
    assert sorted(met[:6]) == list(range(6)), "the silent question was among them"


@pytest.mark.slow
def test_on_two_ranks_a_shared_group_is_whitened_with_the_measured_of_all(base, tmp_path):
    """REINFORCE++ over the batch, with --dynamic_sample: the silent question is drawn and never trained on."""
    flags = ["--per_device_train_batch_size", "6", "--advantage_estimator", "reinforce_plus_plus", "--dynamic_sample", "true"]
    _, written, seen = train(base, tmp_path / "out", 2, *flags, "--max_resample_times", "9")
    assert len(written) == 2
    for number, table in enumerate(written):
        assert 1 not in [place for place, _ in groups(table)]
        tables = [totals(rewards) for _, rewards in groups(table)]
        apart = [alone(measured, advantage_estimator="reinforce_plus_plus", scale_rewards="none") for measured in tables]
        assert all(len(values) > 1 and values.std() > 0 for values in apart)
        expected = torch.zeros(12)
        expected[lay_out(tables)] = torch.cat(apart) / (torch.cat(apart).std() + 1e-4)
        assert table["advantages"] == pytest.approx(expected.tolist(), abs=1e-4)
        used = [of_rank[number] for of_rank in seen]
        assert by_row(used, "advantages") == table["advantages"]
        tokens = by_row(used, "tokens")
        assert [row for row in range(12) if tokens[row]] == lay_out(tables)
        assert {one["all_tokens"] for one in used} == {sum(tokens)}
