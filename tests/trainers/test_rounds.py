"""Rounds of PPO that fit the rows, on one rank and on eight, and every row drawn in some epoch."""

import pytest
from overtake.trainers.rounds import EveryRow, mini_batches, with_every_row


@pytest.mark.parametrize(("ranks", "per_device", "accumulation"), [(1, 4, 16), (8, 4, 2)])
@pytest.mark.parametrize(("rows", "count"), [(64, 1), (100, 1), (200, 3), (400, 4), (1000, 4)])
def test_a_round_has_the_whole_mini_batches_that_the_rows_fill(rows, count, ranks, per_device, accumulation):
    size = ranks * per_device * accumulation
    assert (size, mini_batches(rows, size, 4)) == (64, count)


def test_siblings_fill_a_round_sooner_and_stay_together():
    assert mini_batches(16, 64, 4, siblings=8) == 2
    assert mini_batches(100, 6, 4, siblings=4) == 4, "three mini-batches of 6 hold no whole groups of 4"
    with pytest.raises(ValueError, match="63 rows fill no mini-batch of 64: give more rows"):
        mini_batches(63, 64, 4)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("rows", "batch"), [(100, 64), (200, 192), (400, 256), (1000, 256)])
def test_two_epochs_draw_every_row_and_no_epoch_one_twice(rows, batch, shuffle):
    order = EveryRow(rows, batch, shuffle=shuffle, seed=7)
    epochs = [order.rows(epoch) for epoch in range(3)]
    assert all(len(epoch) == len(set(epoch)) == rows // batch * batch for epoch in epochs)
    assert {*epochs[0], *epochs[1]} == set(range(rows))
    assert order.rows(1) == EveryRow(rows, batch, shuffle=shuffle, seed=7).rows(1), "after a restart as it would have been"
    assert (epochs[0] == list(range(len(epochs[0])))) != shuffle
    assert set(EveryRow(rows, batch, shuffle=shuffle, seed=7, fill=True).rows(0)) == set(range(rows))


def test_trls_sampler_draws_them_for_all_ranks_and_epochs():
    from trl.trainer.utils import RepeatSampler

    plain = RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=2, shuffle=True, seed=5)
    first = list(plain)
    sampler = with_every_row(RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=2, shuffle=True, seed=5), fill=False)
    assert list(sampler) == first and len(sampler) == len(first), "the first epoch is TRL's"
    [left] = set(range(7)) - set(first)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second[:2] == [left, left] and second[:6] == second[6:12] and len(second) == len(first)
    assert isinstance(sampler, RepeatSampler)
