"""What the tests of the recipes share: running one as a user does, reading the command that it prints, a tiny model."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from overtake.launch import entry

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "PROFILE",
    "MODEL",
    "TUNER",
    "DATASET",
    "VAL_DATASET",
    "OUTPUT_DIR",
    "SFT_ADAPTER",
    "ADAPTER",
    "DRY_RUN",
    "HOST",
    "PORT",
    "ROLE",
    "SYSTEM",
    "INFER",
    "SHORT",
    "RULES_ONLY",
}
SETTINGS |= {"ROLLOUT_HOST", "GROUP_PORT", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE", "CUDA_VISIBLE_DEVICES"}
SETTINGS |= {"RESUME", "DISTILL_FROM", "REWARD", "SELECT", "BEHIND", "API_KEY", "OPEN", "ROLLOUT_OPEN"}
SETTINGS |= {"COMPARED", "START", "METRIC", "FORCE"}


def recipe_environment(**settings: object) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    return env | {name: str(value) for name, value in settings.items()}


def run_recipe(recipe: str, *flags: str, cwd: Path = ROOT, **settings: object) -> subprocess.CompletedProcess[str]:
    words = ["bash", str(ROOT / f"recipes/{recipe}.sh"), *flags]
    return subprocess.run(words, capture_output=True, text=True, env=recipe_environment(**settings), cwd=cwd, check=False)


@pytest.fixture(scope="session")
def environment() -> Callable[..., dict[str, str]]:
    """environment(**settings): this process's, with no setting of a recipe but these."""
    return recipe_environment


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(recipe, *flags, cwd=..., **settings): the recipe, ended."""
    return run_recipe


@pytest.fixture(scope="session")
def handing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH in which python3.11 only prints the words that a recipe hands it, each ended by a NUL."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "python3.11"
    program.write_text("#!/bin/bash\nprintf '%s\\0' \"${@:2}\"\n", encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def dry(handing: Path) -> Callable[..., tuple[int, str, str]]:
    """dry(recipe, *flags, **settings): status, stdout and stderr of a dry run, whose launcher runs in this process."""

    def dry(recipe: str, *flags: str, cwd: Path = ROOT, **settings: object) -> tuple[int, str, str]:
        env = recipe_environment(**settings, DRY_RUN=1)
        words = ["bash", str(ROOT / f"recipes/{recipe}.sh"), *flags]
        shell = subprocess.run(words, capture_output=True, env=env | {"PATH": f"{handing}:{env['PATH']}"}, cwd=cwd, check=False)
        remarks = shell.stderr.decode()
        if shell.returncode:
            return shell.returncode, shell.stdout.decode(), remarks
        out, err = io.StringIO(), io.StringIO()
        # What the recipe itself exports beside what it was given is of no matter to the command.
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = entry.main(os.fsdecode(shell.stdout).split("\0")[:-1], env)
        return status, out.getvalue(), remarks + err.getvalue()

    return dry


@pytest.fixture(scope="session")
def command(dry: Any) -> Callable[..., tuple[dict[str, str], list[str]]]:
    """command(recipe, *flags, **settings): what a dry run prints, as environment and arguments after `swift`."""

    def command(recipe: str, *flags: str, **settings: Any) -> tuple[dict[str, str], list[str]]:
        status, out, err = dry(recipe, *flags, **settings)
        assert status == 0, err
        words = shlex.split(out.replace("\\\n", " ").splitlines()[0])
        at = words.index("swift")
        return dict(word.split("=", 1) for word in words[:at]), words[at + 1 :]

    return command


@pytest.fixture(scope="session")
def write_tiny():
    """write_tiny(folder, rows): rows, and in folder/tiny a random Qwen3 of two layers that spells: one token per character.

    Some thousand of them, so that it hardly ever ends at once: ms-swift 4.6.0 breaks off on an empty completion.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    def write(folder: Path, rows: dict[str, int]) -> Path:
        symbols = [
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "[UNK]",
            *map(chr, range(32, 127)),
            "\n",
            *map(chr, range(0x4E00, 0x5600)),
        ]
        spelling = Tokenizer(models.WordLevel({symbol: at for at, symbol in enumerate(symbols)}, unk_token="[UNK]"))
        spelling.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
        spelling.decoder = decoders.Fuse()
        PreTrainedTokenizerFast(
            tokenizer_object=spelling, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=["<|im_start|>"]
        ).save_pretrained(folder / "tiny")
        torch.manual_seed(0)
        size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(symbols), head_dim=32, eos_token_id=2, pad_token_id=0, **size))
        model.save_pretrained(folder / "tiny")
        for name, count in rows.items():
            turns = [("system", "rewrite"), ("user", "question {}"), ("assistant", "query {}")]
            lines = [{"messages": [{"role": role, "content": text.format(at)} for role, text in turns]} for at in range(count)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def tiny(tmp_path: Path, write_tiny: Any) -> Path:
    """The folder of `write_tiny`, eight rows a file."""
    return write_tiny(tmp_path, dict.fromkeys(("train", "val", "rl_train", "rl_val"), 8))
