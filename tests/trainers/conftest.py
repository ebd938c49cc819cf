"""A random tiny student for the tests that train one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """student(seed, width=128) -> the folder of a random tiny Qwen3 and its tokenizer, the same for all seeds and widths."""
    made = {}

    def student(seed=20, width=128):
        folder = tmp_path_factory.getbasetemp() / f"student-{seed}-{width}"
        if folder not in made:
            corpus = ROOT / "datasets/query_rewrite/fivedoctors"
            flags = ["--corpus", str(corpus), "--steps", "0", "--seed", str(seed), "--width", str(width)]
            subprocess.run([sys.executable, "-m", "demo.tiny_students.tiny_model", str(folder), *flags], check=True, cwd=ROOT)
            made[folder] = True
        return folder

    return student
