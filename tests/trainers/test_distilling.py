"""A teacher's term in the trainer: of a served teacher asked for token by token, never of a column that nobody asked to learn from."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from overtake.remote import process
from overtake.remote.token_scores import Server
from overtake.trainers import distilling
from overtake.trainers.grpo import GRPOTrainer
from swift.rl_core.data import GRPOBatch, GRPOSample

# Two rows behind one prompt of two tokens; the second is padded on both sides.
IDS = torch.tensor([[7, 8, 1, 2, 3], [0, 7, 8, 4, 0]])
ATTENDED = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0]])
MASK = torch.tensor([[1, 1, 1], [0, 1, 0]])


def told(body):
    """vLLM's answer: of each token a tenth of its id, less."""
    tokens = [{str(token): {"logprob": -token / 10, "decoded_token": ""}} for token in body["prompt"]]
    return 200, {"choices": [{"text": "", "prompt_logprobs": [None, *tokens[1:]]}]}


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """Our trainer without a model: what these methods read, set by hand."""
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", "0")
    process.forget()
    made = object.__new__(GRPOTrainer)
    accelerator = SimpleNamespace(device=torch.device("cpu"), reduce=lambda tensor, _: tensor, wait_for_everyone=lambda: None)
    saved = []
    made.__dict__.update(
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        template=None,
        args=SimpleNamespace(output_dir=str(tmp_path)),
        state=SimpleNamespace(global_step=3),
        advantage_reweight=None,
        sdar_loss_coef=0.0,
        saved=saved,
        _metrics={"train": defaultdict(list)},
    )
    made.is_world_process_zero = lambda: True
    made._save_checkpoint = lambda model, trial: saved.append(made.state.global_step)
    yield made
    process.forget()


def batch():
    return GRPOBatch(completion_mask=MASK.clone(), truncated_mask=torch.zeros(2, dtype=torch.bool), seq_lengths=torch.tensor([5, 3]))


def encoded():
    return [{"grpo_batch": batch(), "model_inputs": {"input_ids": IDS, "attention_mask": ATTENDED}, "_chunk_samples": []}]


def test_a_served_teachers_log_probabilities_stand_at_their_tokens(trainer, serve):
    server = serve(told)
    trainer._served, trainer.teacher_model_server = Server(server.url, "t", swift=False), f"{server.url}/v1"
    batches = encoded()
    trainer._assemble_teacher_api_logps([], batches)
    expected = torch.tensor([[-0.1, -0.2, -0.3], [0.0, -0.4, 0.0]])
    assert torch.allclose(batches[0]["grpo_batch"].teacher_per_token_logps, expected)
    assert sorted(request.body["prompt"] for request in server.requests) == [[7, 8, 1, 2, 3], [7, 8, 4]], "without padding"
    assert "_chunk_samples" not in batches[0]


def test_a_served_teacher_that_cannot_be_had_ends_the_run_with_a_checkpoint(trainer, serve, tmp_path, capsys):
    server = serve(lambda body: (400, {"message": "no prompt_logprobs here"}))
    trainer._served, trainer.teacher_model_server = Server(server.url, "t", swift=False), f"{server.url}/v1"
    with pytest.raises(SystemExit):
        trainer._assemble_teacher_api_logps([], encoded())
    words = (tmp_path / "stopped.txt").read_text()
    assert words.startswith(f"error: stopped at step 3. The teacher at {server.url}: ") and "no prompt_logprobs here" in words
    assert trainer.saved == [3] and words == capsys.readouterr().err


def row(**more):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    return {"messages": turns, "prompt_id": "p", "request_id": "r", **more}


def test_what_only_a_teacher_knows_is_read_where_it_is_asked_for(trainer):
    [plain] = trainer.to_samples([row(teacher_prompt="q, answer a")])
    assert isinstance(plain, GRPOSample) and plain.teacher_prompt is None, "the column alone does not make a teacher"
    trainer._privileged = True
    [told_more] = trainer.to_samples([row(teacher_prompt="q, answer a")])
    assert told_more.teacher_prompt == "q, answer a"
    with pytest.raises(ValueError, match="a row has no teacher_prompt"):
        trainer.to_samples([row(teacher_prompt="q, answer a"), row()])


def test_the_distance_from_the_teacher_is_a_mean_over_tokens_not_over_batches(monkeypatch):
    monkeypatch.setattr(distilling, "gather", lambda tensor: torch.cat([tensor, tensor]))  # two ranks that hold the same
    batches = [batch(), batch()]
    for one, gap in zip(batches, (0.5, 0.0), strict=True):
        one.old_per_token_logps = torch.full(MASK.shape, -1.0)
        one.teacher_per_token_logps = torch.full(MASK.shape, -1.0 + gap)
    # Four tokens at a distance of .5 and four of none; k3 is exp(d) - d - 1.
    assert distilling.mean_teacher_kl(batches) == pytest.approx((math.exp(0.5) - 1.5) / 2)
    batches[0].completion_mask = torch.zeros_like(MASK)
    assert distilling.mean_teacher_kl(batches) == 0
