"""Seeded draws: shares are kept, nothing is drawn twice, and the same seed draws the same."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from overtake.data.splits import draw


def test_each_kind_keeps_its_share_and_the_rarest_is_there():
    kinds = ["calculation"] * 700 + ["concept"] * 295 + ["analysis"] * 5
    drawn = Counter(kinds[place] for place in draw(kinds, 100, seed=1))
    assert drawn == {"calculation": 70, "concept": 29, "analysis": 1}


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_a_draw_is_of_the_size_asked_for_in_order_and_repeatable(kinds, count, seed):
    places = draw(kinds, count, seed)
    assert len(places) == min(count, len(kinds)) and places == sorted(set(places)) and places == draw(kinds, count, seed)
    if len(kinds) > count >= len(set(kinds)):
        assert {kinds[place] for place in places} == set(kinds)


def test_another_seed_draws_other_rows():
    assert draw(["a"] * 100, 10, seed=1) != draw(["a"] * 100, 10, seed=2)
