"""On-policy distillation really trains: the teacher's term of each token is what its logits say, worked out here from the recorded batches.

Two steps a run, five minutes on two idle cores. Run: python -m pytest -m slow tests/recipes/test_distilling.py
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from overtake.evaluation.curves import read_log

ROOT = Path(__file__).resolve().parents[2]

# Notes on each rank what the loss is given, and a reward that abstains for some of each group.
NOTING = """
import json, os, zlib
from pathlib import Path

import overtake
from overtake.trainers.grpo import GRPOTrainer
from swift.rewards import ORM, orms
from swift.trainers import TrainerFactory


class Patchy(ORM):
    def __call__(self, completions, **_):
        numbers = [zlib.crc32(text.encode()) for text in completions]
        return [None if number % 3 == 0 else number % 7 / 6 for number in numbers]


class Noting(GRPOTrainer):
    def _compute_loss(self, model, inputs, batch, origin_data=None):
        tensors = dict(ids=inputs["input_ids"], attended=inputs["attention_mask"], mask=batch.completion_mask)
        tensors |= dict(teacher=batch.teacher_per_token_logps, old=batch.old_per_token_logps, advantages=batch.advantages)
        note = {name: tensor.tolist() for name, tensor in tensors.items()} | dict(train=self.model.training)
        with (Path(os.environ["SEEN"]) / os.environ.get("RANK", "0")).open("a") as file:
            file.write(json.dumps(note) + "\\n")
        return super()._compute_loss(model, inputs, batch, origin_data)


overtake.register()
orms["patchy"] = Patchy
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


def by_hand(batch: dict[str, Any], model: Path, temperature: float, rewrite: Any = None) -> list[list[float]]:
    """The teacher's log-probabilities of each row's scored tokens; `rewrite(prompt ids)` is the prompt that the teacher sees."""
    found = []
    for ids, attended, mask in zip(batch["ids"], batch["attended"], batch["mask"], strict=True):
        begin, end = len(ids) - len(mask) + mask.index(1), len(ids) - mask[::-1].index(1)
        assert sum(mask) == end - begin, "a completion in one piece"
        prompt = [token for token, there in zip(ids[:begin], attended, strict=False) if there]
        whole = (rewrite(prompt) if rewrite else prompt) + ids[begin:end]
        found.append(log_probabilities(model, whole, temperature)[begin - end :].tolist())
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
def test_on_two_ranks_who_abstains_keeps_the_teachers_term(folder: Path, train: Any) -> None:
    rewards = ["--reward_funcs", "patchy", "--reward_weights", "1", "--eval_strategy", "no"]
    ended, seen = train("ranks", *rewards, PROFILE="cpu-zero2", DISTILL_FROM="teacher")
    done(ended)
    assert len(seen) == 2
    log = [row for row in read_log(folder / "ranks") if "loss" in row]
    abstained = 0
    for step, row in enumerate(log):
        batches = [of_rank[step] for of_rank in seen]
        for batch in batches:
            check_terms(batch, by_hand(batch, folder / "teacher", 0.7))
            gaps = [torch.tensor(a) - torch.tensor(b) for a, b in zip(scored(batch, "teacher"), scored(batch, "old"), strict=True)]
            own = [torch.tensor(a)[0] - gap[0] for a, gap in zip(scored(batch, "advantages"), gaps, strict=True)]
            abstained += sum(abs(value) < 1e-5 for value in own)
        assert row["teacher_kl"] == pytest.approx(k3(batches), rel=1e-3), "of both ranks"
        assert row["reward"] > 0
    silent = sum(row["reward_abstain/Patchy"] * 8 for row in log)
    assert 0 < silent <= abstained, "without a reward, but with tokens that the loss counts"


@pytest.mark.slow
def test_under_vllm_the_student_learns_from_itself_told_more(folder: Path, train: Any) -> None:
    from transformers import AutoTokenizer

    flags = ["--torch_dtype", "float32", "--bf16", "false", "--eval_strategy", "no"]
    ended, [seen] = train("self", *flags, PROFILE="cpu-vllm", DISTILL_FROM="self", REWARD="none")
    done(ended)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny")

    def told_more(prompt: list[int]) -> list[int]:
        before, _, rest = tokenizer.decode(prompt).partition("user\n")
        question, _, after = rest.partition("<|im_end|>")
        return list(tokenizer(f"{before}user\n{question} (answer: 42)<|im_end|>{after}")["input_ids"])

    # Before its first update the student is the model that it began with.
    check_terms(seen[0], by_hand(seen[0], folder / "tiny", 0.7, told_more))
    assert k3(seen[:1]) > 0
    row = next(row for row in read_log(folder / "self") if "loss" in row)
    assert row["teacher_kl"] == pytest.approx(k3(seen[:1]), rel=1e-3)


@pytest.fixture
def teacher_server(folder: Path) -> Any:
    """teacher_server(answers) -> the address of a server in vLLM's form that falls silent after so many answers."""
    servers = []

    def serve(answers: int) -> str:
        left = [answers]

        class Handler(BaseHTTPRequestHandler):
            def answer(self, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.answer({"data": [{"id": "teacher", "owned_by": "vllm"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                left[0] -= 1
                if left[0] < 0:
                    self.connection.close()
                    return
                ids = body["prompt"]
                told = log_probabilities(folder / "teacher", ids, 1.0).tolist()
                tokens = [{str(token): {"logprob": value, "decoded_token": ""}} for token, value in zip(ids[1:], told, strict=True)]
                self.answer({"choices": [{"text": "", "prompt_logprobs": [None, *tokens]}]})

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_served_teacher_that_falls_silent_stops_the_run_with_a_checkpoint(folder: Path, train: Any, teacher_server: Any) -> None:
    address = teacher_server(9)  # the doctor's look, and the eight rows of a step
    flags = ["--torch_dtype", "float32", "--bf16", "false", "--eval_strategy", "no"]
    settings = {"PROFILE": "cpu", "DISTILL_FROM": address, "REWARD": "none", "OVERTAKE_OUTAGE_PATIENCE": 1}
    ended, [seen] = train("served", *flags, **settings)
    assert ended.returncode == 1
    assert len(seen) == 1
    check_terms(seen[0], by_hand(seen[0], folder / "teacher", 1.0))
    said = (folder / "served/stopped.txt").read_text()
    assert said.startswith("error: stopped at step 1. The teacher at http://127.0.0.1:") and said.count("\n") == 1
    assert (folder / "served/checkpoint-1/adapter_model.safetensors").is_file()
    assert said.strip() in ended.stderr


@pytest.fixture
def deployed(folder: Path, environment: Any) -> Any:
    """deployed("swift" or "vllm") -> the address of the teacher, served by that program, ready to answer."""
    servers = []

    def start(program: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if program == "swift":
            words = ["bash", str(ROOT / "recipes/deploy.sh"), "--model_type", "qwen3", "--template", "qwen3", "--vllm_max_model_len", "512"]
        else:
            # The CPU stack's vLLM has another package's name, which its own command does not find.
            words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "teacher", "--port", str(port)]
            words += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "512"]
        quiet = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_PLUGINS": "none"}
        env = environment(PROFILE="cpu", MODEL="teacher", PORT=port, VLLM_CPU_KVCACHE_SPACE=1, **quiet)
        server = subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
        servers.append(server)
        for _ in range(600):
            assert server.poll() is None, f"{program} ended with {server.returncode}"
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}/v1/models")
                return f"http://127.0.0.1:{port}/v1"
            time.sleep(1)
        raise AssertionError(f"{program} does not answer")

    yield start
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("program", ["swift", "vllm"])
def test_a_teacher_served_by_a_real_engine_says_what_its_logits_say(folder: Path, train: Any, deployed: Any, program: str) -> None:
    flags = ["--torch_dtype", "float32", "--bf16", "false", "--eval_strategy", "no"]
    ended, [seen] = train(f"by-{program}", *flags, PROFILE="cpu", DISTILL_FROM=deployed(program), REWARD="none")
    done(ended)
    for step in seen:
        check_terms(step, by_hand(step, folder / "teacher", 1.0))
    assert len(seen) == 2


@pytest.mark.slow
def test_gkd_trains_from_the_same_recipe(folder: Path, train: Any) -> None:
    flags = ["--rlhf_type", "gkd", "--lmbda", "1", "--torch_dtype", "float32", "--bf16", "false", "--eval_strategy", "no"]
    ended, _ = train("gkd", *flags, "--beta", "1", PROFILE="cpu", DISTILL_FROM="teacher", REWARD="none")
    done(ended)
    losses = [row["loss"] for row in read_log(folder / "gkd") if "loss" in row]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
