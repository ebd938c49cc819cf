"""What starts a tool, a benchmark or a script of the demo as a process, and what a tiny student is held to."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from ..conftest import ROOT, SCRIPTS


def command(name, *arguments):
    """The words that start a tool, a benchmark or a script of the demo as a process of its own."""
    path = SCRIPTS[name].relative_to(ROOT)
    script = ["-m", ".".join(path.with_suffix("").parts)] if path.parts[0] == "demo" else [str(ROOT / path)]
    return [sys.executable, *script, *map(str, arguments)]


@pytest.fixture
def start():
    """start("generate", *arguments, **environment) -> the tool as a process of its own; what runs at the end is killed."""
    running = []

    def start(name, *arguments, **environment):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        words = command(name, *arguments)
        running.append(subprocess.Popen(words, cwd=ROOT, text=True, env=os.environ | environment, preexec_fn=heed, **pipes))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()


@pytest.fixture
def start_tool(start, tmp_path):
    """start_tool(tool, *arguments, **environment) -> its process, URL and ready file, once it is ready."""

    def start_tool(tool, *arguments, **environment):
        ready = tmp_path / f"url{sum(path.name.startswith('url') for path in tmp_path.iterdir())}"
        started = start(tool, *arguments, "--port", "0", "--ready-file", ready, **environment)
        end = time.monotonic() + 60
        while not ready.exists():
            assert started.poll() is None, started.communicate()
            assert time.monotonic() < end, "not ready after 60 s"
            time.sleep(0.02)
        return started, ready.read_text(), ready

    return start_tool


@pytest.fixture
def same_as_ms_swift():
    """same_as_ms_swift(folder, messages, answer): a tiny student's prompt and row are, token for token, those of ms-swift's template."""
    from swift.model import get_processor
    from swift.template import get_template
    from transformers import AutoTokenizer

    def check(folder, messages, answer):
        template = get_template(get_processor(str(folder), model_type="qwen3", download_model=False), template_type="qwen2_5")
        own = AutoTokenizer.from_pretrained(folder)
        given = own(own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), add_special_tokens=False).input_ids
        template.set_mode("transformers")
        assert template.encode({"messages": messages})["input_ids"] == given
        template.set_mode("train")
        trained = template.encode({"messages": [*messages, {"role": "assistant", "content": answer}]})
        wanted = [*own(answer).input_ids, own.eos_token_id]
        assert trained["input_ids"][: len(given + wanted)] == given + wanted
        assert trained["labels"][len(given) : len(given + wanted)] == wanted

    return check
