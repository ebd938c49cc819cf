"""Batches of rows of one length: every row once, little padding, whole updates of mixed lengths, the same on every rank."""

import random

import pytest
from overtake.trainers import mixed_lengths
from swift.dataloader.shard import BatchSamplerShard

LENGTHS = random.Random(0).choices(range(10, 1000), k=203)


@pytest.fixture
def dealt(monkeypatch):
    """dealt(batch, world, rank, **options) -> a rank's batches."""
    monkeypatch.setattr(BatchSamplerShard, "__iter__", mixed_lengths._mixed)

    def dealt(batch, world=1, rank=0, epoch=0, **options):
        monkeypatch.setattr(BatchSamplerShard, "world_size", property(lambda _: world))
        monkeypatch.setattr(BatchSamplerShard, "rank", property(lambda _: rank))
        how = {"shuffle": True, "drop_last": False, "data_seed": 7, "group_by_length": True, "lengths": LENGTHS} | options
        sampler = BatchSamplerShard(len(LENGTHS), batch_size=batch, **how)
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert len(found) == len(sampler)
        return found

    return dealt


def padding(batches):
    return 1 - sum(LENGTHS[at] for batch in batches for at in batch) / sum(
        max(LENGTHS[at] for at in batch) * len(batch) for batch in batches
    )


def test_every_row_is_dealt_once_with_little_padding_and_the_longest_first(dealt):
    found = dealt(4)
    assert sorted(at for batch in found for at in batch) == list(range(203)) and [len(batch) for batch in found[-2:]] == [4, 3]
    assert padding(found) < 0.1 < 0.3 < padding(dealt(4, group_by_length=False, lengths=None))
    assert LENGTHS.index(max(LENGTHS)) in found[0]
    assert dealt(4) == found != dealt(4, epoch=1)
    assert [len(batch) for batch in dealt(4, drop_last=True)] == [4] * 50


def test_an_update_of_several_batches_sees_short_and_long_rows(dealt, monkeypatch):
    def spread(batches):
        """The means of updates of 8 batches: how far apart they lie."""
        means = [sum(LENGTHS[at] for batch in batches[start : start + 8] for at in batch) / 32 for start in range(0, 48, 8)]
        return max(means) - min(means)

    mixed = spread(dealt(4))
    monkeypatch.setattr(BatchSamplerShard, "__iter__", mixed_lengths._plain)
    sampler = BatchSamplerShard(203, batch_size=4, shuffle=True, drop_last=False, data_seed=7, group_by_length=True, lengths=LENGTHS)
    assert mixed < 0.6 * spread(list(sampler))


@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_have_as_many_batches_of_like_lengths_and_no_row_in_common(dealt, drop_last):
    ranks = [dealt(4, 3, rank, drop_last=drop_last) for rank in range(3)]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    rows = [at for batches in ranks for batch in batches for at in batch]
    assert len(rows) == len(set(rows)) == (16 * 12 if drop_last else 201)
    assert padding([[at for batch in step for at in batch] for step in zip(*ranks, strict=True)]) < 0.25, (
        "no rank waits for another one's long rows"
    )


def test_other_orders_stay_as_they_are(dealt, monkeypatch):
    plain = dealt(4, group_by_length=False, lengths=None)
    monkeypatch.setattr(BatchSamplerShard, "__iter__", mixed_lengths._plain)
    assert plain == list(BatchSamplerShard(203, batch_size=4, shuffle=True, drop_last=False, data_seed=7))
