"""pretraining.py: packed lessons, of which only what is marked is learnt; Muon's step."""

import math
import random

import pytest

from demo.tiny_students import pretraining, students


class Letters:
    """A tokenizer with a token a letter."""

    eos_token_id = pad_token_id = 0

    def __len__(self):
        return 27

    def __call__(self, texts):
        return type("Encoded", (), {"input_ids": [[ord(letter) - ord("a") + 1 for letter in text] for text in texts]})


def lessons(seed=1):
    """A letter nobody can know, and behind it the one that follows from it."""
    rng = random.Random(seed)
    while True:
        letter = rng.choice("abcdefgh")
        yield [(letter, False), (chr(ord(letter) + 10), True)]


def model():
    return students.make_model(Letters(), 32, 1, 20)


def test_what_is_not_marked_to_be_learnt_costs_nothing():
    # Were the letter before learnt as well, half of its ln 8 would be the least.
    assert pretraining.pretrain(model(), Letters(), lessons(), 60, rows=2, length=32) < math.log(8) / 2


def test_the_same_lessons_give_the_same_loss():
    one, same, other = (pretraining.pretrain(model(), Letters(), lessons(seed), 3, rows=2, length=16) for seed in (1, 1, 2))
    assert one == same != other


def test_a_muon_step_is_of_adams_size_whatever_the_gradients():
    import torch

    for scale in (1e-6, 1.0, 1e3):
        weight = torch.zeros(64, 32, requires_grad=True)
        weight.grad = scale * torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
        pretraining.muon_step(weight, torch.zeros(64, 32), 0.01)
        assert weight.detach().pow(2).mean().sqrt().item() == pytest.approx(0.002, rel=0.2)
        assert (weight * weight.grad).sum() < 0
