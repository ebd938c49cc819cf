"""Seeded draws: shares are kept, nothing is drawn twice, and a seed draws today what it drew before (recorded, for each task's split)."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.data.splits import draw, held_out, split
from overtake.retrieval import hold_out
from overtake.retrieval.corpus import read_qrels
from overtake.tasks.medical import prepare
from overtake.tasks.medical.rows import Item
from overtake.tasks.query_rewrite import convert


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


# Every question stands in two rows, once with a question mark.
TWICE = [f"第{row // 2}问" + "？" * (row % 2) for row in range(40)]
RECORDED = [
    ((0.8, 0.1, 0.1), 20, [24, 25, 38, 39], [26, 27, 34, 35]),
    ((0.8, 0.1, 0.1), 7, [4, 5, 20, 21], [26, 27, 38, 39]),
    ((0.5, 0.3, 0.2), 20, [0, 1, 2, 3, 6, 7, 20, 21, 28, 29, 30, 31], [24, 25, 26, 27, 34, 35, 38, 39]),
    ((0.5, 0.3, 0.2), 7, [6, 7, 12, 13, 22, 23, 28, 29, 34, 35, 36, 37], [4, 5, 20, 21, 26, 27, 38, 39]),
]


def places(sides, side):
    return [place for place, found in enumerate(sides) if found == side]


@pytest.mark.parametrize(("shares", "seed", "val", "test"), RECORDED)
def test_rewrites_are_split_as_ever(shares, seed, val, test):
    sides = split(TWICE, dict(zip(("train", "val", "test"), shares, strict=True)), seed)
    assert (places(sides, "val"), places(sides, "test")) == (val, test)


@pytest.mark.parametrize(("seed", "val"), [(20, [26, 27, 34, 35]), (7, [26, 27, 38, 39])])
def test_what_published_labels_leave_is_split_as_ever(tmp_path, seed, val):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n4\td\t1\n8\td\t1\n12\td\t1\n")
    rows = [{"query_id": str(place), "original_query": text} for place, text in enumerate(TWICE)]
    sides, left_out = convert.published(rows, tmp_path, {"train": 0.8, "val": 0.1, "test": 0.1}, seed)
    assert [int(name) for name in sides if sides[name] == "val"] == val
    assert [name for name in sides if sides[name] == "test"] == ["4", "8", "12"] and left_out == ["5", "9", "13"]


@pytest.mark.parametrize(
    ("seed", "held"), [(20, [12, 13, 26, 27, 30, 31, 34, 35, 44, 45, 52, 53]), (7, [6, 7, 18, 19, 28, 29, 30, 31, 36, 37, 56, 57])]
)
def test_problems_are_held_out_by_type_as_ever(seed, held):
    questions = [f"第{row // 2}题" + "，" * (row % 2) for row in range(60)]
    kinds = [("calculation", "concept", "analysis")[row // 2 % 7 % 3] for row in range(60)]
    assert places(held_out(questions, 0.2, seed, kinds), True) == held


@pytest.mark.parametrize(("seed", "test"), [(20, [24, 25, 26, 27, 34, 35, 38, 39]), (7, [4, 5, 20, 21, 26, 27, 38, 39])])
def test_questions_of_a_knowledge_base_are_held_out_as_ever(tmp_path, seed, test):
    kb = tmp_path / "kb"
    kb.mkdir()
    (kb / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "x"}\n')
    (kb / "queries.jsonl").write_text("".join(json.dumps({"_id": f"q{place}", "text": text}) + "\n" for place, text in enumerate(TWICE)))
    (kb / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{place}\td\t1\n" for place in range(40)))
    hold_out.work(SimpleNamespace(folder=kb, out=tmp_path / "out", share=0.2, seed=seed, documents=False, keep=None))
    assert [int(name[1:]) for name in read_qrels(tmp_path / "out", "test")] == test


MEDICAL = {
    20: {
        "dev": [16, 17, 36, 37, 50, 51, 74, 75],
        "test": [14, 15, 26, 27, 52, 53, 68, 69],
        "gold_set": [18, 19, 28, 29, 62, 63, 78, 79],
        "red_team/train": [30, 31, 82, 83],
        "red_team/held_out": [60, 61, 80, 81],
    },
    7: {
        "dev": [54, 55, 56, 57, 74, 75, 78, 79],
        "test": [18, 19, 26, 27, 70, 71, 72, 73],
        "gold_set": [14, 15, 64, 65, 68, 69, 76, 77],
        "red_team/train": [40, 41, 82, 83],
        "red_team/held_out": [10, 11, 80, 81],
    },
}


@pytest.mark.parametrize("seed", MEDICAL)
def test_medical_questions_are_split_as_ever(seed):
    def asked(number):
        return "".join(chr(0x4E00 + (number * 7919 + place * place * 104729) % 20000) for place in range(12))

    answer = "胃胀多与吃得过快、过饱有关，平时可以少量多餐、细嚼慢咽，饭后散步；持续两周以上请到消化科检查。"
    items = [Item(asked(row // 2) + "好" * (row % 2), answer, "", (), "s", "pregnancy" * (row % 10 < 2)) for row in range(80)]
    red = [Item(asked(100 + row), "", "", (), "r", "") for row in range(4)]
    shares = {"dev": 0.1, "test": 0.1, "gold_set": 0.1, "red_team": 0.2}
    sides, _ = prepare.draw([*items, *red], {item.med_id for item in red}, shares, seed)
    assert {side: places(sides, side) for side in MEDICAL[seed]} == MEDICAL[seed]


def test_a_sample_is_drawn_as_ever():
    assert draw([("a", "b", "c")[row % 7 % 3] for row in range(50)], 12, 20) == [2, 7, 8, 10, 18, 20, 23, 32, 44, 46, 48, 49]
