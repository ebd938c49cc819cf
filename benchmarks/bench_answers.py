"""Measure how long candidates of an evaluation take to answer on this machine: by vLLM and by transformers, starts included.

    python benchmarks/bench_answers.py --model ~/.cache/overtake-models/Qwen2.5-Coder-0.5B-Instruct
    python benchmarks/bench_answers.py --model MODEL --candidates 4 --rows 480 --tokens 48 --engines vllm
    python benchmarks/bench_answers.py --model MODEL --candidates 1 --rows 64 --engines vllm transformers     # where does a start pay?

The first candidate is the model, every other one a LoRA adapter of it with small random weights. They are asked as tools/evaluate.py asks
the candidates of query rewriting, one after the other in one process: shipped questions, at most --tokens tokens each. Each engine runs in
a process of its own. Prints a table in Markdown and whether all candidates were done within --minutes. Exit code 0 when they were by every
engine, else 1; 2 when it could not be measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from overtake.cli import Abort, positive, run
from overtake.data.tables import BadInput
from overtake.retrieval.corpus import read_queries
from overtake.tasks.query_rewrite import TASK
from overtake.tasks.query_rewrite.columns import HISTORY, PROFILE, QUERY, QUERY_ID, TENANT

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "datasets/query_rewrite/fivedoctors"
ENGINES = ("vllm", "transformers")


def rows(count: int) -> list[dict[str, str]]:
    """Shipped questions, over again where there are fewer of them."""
    queries = list(read_queries(SAMPLE).items())
    drawn = [queries[at % len(queries)] for at in range(count)]
    return [{QUERY_ID: str(at), QUERY: query["text"], TENANT: SAMPLE.name, PROFILE: "", HISTORY: ""} for at, (_, query) in enumerate(drawn)]


def make_adapters(model: Path, count: int, folder: Path) -> None:
    """Write adapters of a model, as a trainer of ours leaves them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    tuned = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    for at in range(1, count):
        torch.manual_seed(at)
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=1e-3)
        tuned.save_pretrained(folder / f"adapter-{at}")


def answer(options: argparse.Namespace) -> int:
    """Have every candidate answer by one engine, and print what each took as JSON."""
    from overtake.evaluation import comparing

    task = replace(TASK, decoding=replace(TASK.decoding, limit=options.tokens))
    folders = [options.model, *(options.folder / f"adapter-{at}" for at in range(1, options.candidates))]
    told = []
    for at, folder in enumerate(folders):
        begun = time.monotonic()
        answers, _ = comparing.answered(task, str(at), str(folder), rows(options.rows), options.folder, options.answer == "vllm")
        told.append({"candidate": folder.name, "seconds": time.monotonic() - begun, "empty": sum(not text for text in answers.values())})
    print(json.dumps(told))
    return 0


def table(told: dict[str, list[dict[str, Any]]], count: int, minutes: float) -> str:
    """Seconds of every candidate by every engine, and whether their sum lies within the minutes.

    >>> print(table({"vllm": [{"candidate": "base", "seconds": 60.0, "empty": 0}]}, 480, 12).splitlines()[2])
    | vllm | base 60 s | 60 s | 8.0 | met |
    """
    lines = [f"| engine | each candidate | all | answers/s | within {minutes:g} min |", "|---|---|---|---|---|"]
    for engine, candidates in told.items():
        whole = sum(one["seconds"] for one in candidates)
        each = ", ".join(f"{one['candidate']} {one['seconds']:.0f} s" for one in candidates)
        met = "met" if whole <= 60 * minutes else "over"
        lines.append(f"| {engine} | {each} | {whole:.0f} s | {count * len(candidates) / whole:.1f} | {met} |")
    return "\n".join(lines)


def measure(options: argparse.Namespace) -> int:
    """Run each engine in a process of its own."""
    if not (options.model / "config.json").is_file():
        raise BadInput(f"--model {options.model}: no config.json there: name a model's folder")
    told: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench_answers_") as scratch:
        place = Path(scratch)
        make_adapters(options.model, options.candidates, place)
        for engine in options.engines:
            sizes = ("--candidates", options.candidates, "--rows", options.rows, "--tokens", options.tokens)
            own = ("--answer", engine, "--folder", place, "--model", options.model)
            done = subprocess.run(
                [sys.executable, __file__, *map(str, (*sizes, *own))], stdout=subprocess.PIPE, text=True, check=False, cwd=place
            )
            if done.returncode:
                raise Abort(f"{engine} ended with {done.returncode}: its words stand above")
            told[engine] = json.loads(done.stdout.splitlines()[-1])
            for file in place.glob("answers_*"):
                file.unlink()
    print(table(told, options.rows, options.minutes))
    return int(any(sum(one["seconds"] for one in candidates) > 60 * options.minutes for candidates in told.values()))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=lambda text: Path(text).expanduser().resolve(), required=True, help="a model's folder")
    parser.add_argument("--candidates", type=positive, default=4, help="default %(default)s")
    parser.add_argument("--rows", type=positive, default=480, help="questions of each (default %(default)s)")
    parser.add_argument("--tokens", type=positive, default=48, help="of an answer, at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=12, help="for all of them (default %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["vllm"], help="default vllm")
    parser.add_argument("--answer", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    return run(lambda: answer(options) if options.answer else measure(options))


if __name__ == "__main__":
    sys.exit(main())
