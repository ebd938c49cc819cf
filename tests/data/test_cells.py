"""Missing is missing, a list is a list however it was printed, what is no text is told, and options belong to their question."""

import itertools
import json
import random
from pathlib import Path

import numpy
import pandas
import pytest
from overtake.data import tables
from overtake.data.cells import cell, no_text, plain, structure
from overtake.data.near_duplicates import repeats
from overtake.data.options import with_options
from overtake.reading.normal_forms import for_likeness
from overtake.tasks.answer_judge import dataset as judge_dataset
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.finance import dataset as finance_dataset
from overtake.tasks.finance import rows as finance
from overtake.tasks.medical import rows as medical
from overtake.tasks.query_rewrite import dataset as rewrite_dataset
from overtake.tasks.query_rewrite import generate

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases/cells.jsonl").read_text("utf-8").split("\n") if line]
WORDS = ["咳嗽", "it's", 'a "quoted" one', "Paris", "1,5", "发热 三天", "[note", "back\\slash", "x\ny", "None", "😀 x"]


def read(task, path):
    """A row as the task's tool reads it: its columns, or the words by which it is refused."""
    if task == "query_rewrite":
        rows, rejected = generate.usable_rows(path, tables.read_rows(path), "问题", "fivedoctors")
        return rows[0] if rows else rejected[0]["reason"]
    if task == "medical":
        source = medical.read(str(path))
        return vars(source.items[0]) if source.items else next(iter(source.left_out))
    if task == "judge":
        try:
            return judged.read(path)[0]._asdict()
        except tables.BadInput as error:
            return str(error)
    [cells] = tables.read_rows(path)
    row = finance.problem(cells, finance.columns(list(cells), {}), "own")
    return finance.rejection_reason(row) or row


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['task']} {case['line'][:60]}")
def test_a_cell_is_read_as_what_it_means(tmp_path, case):
    (tmp_path / "rows.jsonl").write_text(case["line"] + "\n", encoding="utf-8")
    found = read(case["task"], tmp_path / "rows.jsonl")
    if isinstance(case["want"], str):
        assert isinstance(found, str) and case["want"] in found
    else:
        assert not isinstance(found, str), found
        known = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        assert {name: known[name] for name in case["want"]} == case["want"]


def test_f28_f29_f30_the_data_sets_read_raw_values_as_the_tools_do():
    nan = float("nan")
    judge = {"question": ["who"], "golden_answers": "['Ann', 'Anne']", "answer_hat": "It is Ann.", "label": 1}
    assert judge_dataset.to_sample(judge)["judge_answer"] == '["Ann", "Anne"]'
    assert judge_dataset.to_sample({**judge, "golden_answers": nan}) is None
    rewrite = {"original_query": ["睡不着"], "rewritten_query": "失眠", "tenant_id": "fivedoctors", "user_profile": nan}
    assert rewrite_dataset.to_sample(rewrite)["rag_query"] == "睡不着"
    with pytest.raises(ValueError, match="original_query: it is a list of 2"):
        rewrite_dataset.to_sample({**rewrite, "original_query": ["睡不着", "多梦"]})
    assert finance_dataset.to_sample({"question": {"text": "x"}, "answer": "8"}) is None
    assert medical.to_sample({"question": "嗓子疼了两天", "answer": nan}) is None


def test_f29_a_list_printed_in_any_way_is_the_same_list():
    """600 random lists, as JSON, Python, numpy, pandas' own file and a list of numpy's texts print them."""
    rng = random.Random(29)
    for _ in range(150):
        items = [rng.choice(WORDS) for _ in range(rng.randint(1, 5))]
        printed = [json.dumps(items, ensure_ascii=False), json.dumps(items), repr(items), repr(tuple(items))]
        printed += [str(numpy.array(items, dtype=object)), repr(numpy.array(items, dtype=object)), repr([numpy.str_(one) for one in items])]
        for text in printed:
            assert structure(text) == items, text
        wanted = tuple(dict.fromkeys(items))
        assert judged.alternatives(printed[2]) == medical.listed(printed[4]) == wanted
        assert judged.alternatives(cell(items)) == medical.listed(cell([*items, float("nan")])) == wanted


def test_f29_pandas_own_file_holds_lists(tmp_path):
    pandas.DataFrame({"golden_answers": [["Oslo", "Bergen"]], "answer_hat": ["x"]}).to_csv(tmp_path / "j.csv", index=False)
    assert judged.read(tmp_path / "j.csv")[0].gold == ("Oslo", "Bergen")


def test_f30_a_text_is_never_taken_for_a_list():
    """600 random texts with brackets, quotes and numbers in them, and the mathematics of lists."""
    rng = random.Random(30)
    for _ in range(600):
        inside = "".join(rng.choice("ab1,. ：'x的") for _ in range(rng.randint(0, 8)))
        text = rng.choice(["怎么吃[{}]", "({}", "[{}）", "见{{{}}}", "（{}）", "[{}][1]b"]).format(inside)
        assert plain(text) == text and not no_text(text) and structure(text) is None, text
    for text in ("(3.2)", "[1, 2]", "{1, 2}", "(1, 2)", "[0, 1)", "[]的长度", "{x | x > 1}", "[a, b]", "(a)"):
        assert plain(text) == text, text


def test_f30_what_is_no_text_is_told_and_a_list_of_one_is_its_item():
    """500 random structures: of those with several items or names none passes as a text, printed or not."""
    rng = random.Random(31)
    for _ in range(500):
        value = [rng.choice(WORDS) for _ in range(rng.randint(1, 4))]
        if rng.random() < 0.5:
            value = {f"k{at}": one for at, one in enumerate(value)}
        text = rng.choice([cell, repr, lambda value: json.dumps(value, ensure_ascii=False)])(value)
        if isinstance(value, list) and len(value) == 1:
            assert plain(text) == value[0]
        else:
            assert no_text(text).startswith("it is an object (" if isinstance(value, dict) else f"it is a list of {len(value)} ("), text
    assert plain(cell([])) == plain(cell({})) == plain("[]") == ""


def test_f31_options_in_any_form_make_the_same_question():
    """500 random sets of options, in ten forms each; another option makes another question."""
    rng = random.Random(31)
    letters = "ABCDEFGH"
    for number in range(500):
        texts = [f"{rng.choice('甲乙丙丁戊己')}{rng.randint(1, 999)}号{at}" for at in range(rng.randint(2, 6))]
        named = dict(zip(letters, texts, strict=False))
        question = f"第{number}题：下列哪一项正确？"
        wanted = "\n".join([question, *(f"{letter}. {text}" for letter, text in named.items())])
        column = rng.choice(["options", "Choices", " 选项 ", "option", "备选答案"])
        forms = [
            {column: named},
            {column: json.dumps(named, ensure_ascii=False)},
            {column: repr(named)},
            {column: texts},
            {column: repr(texts)},
            {column: [{"key": letter, "value": text} for letter, text in named.items()]},
            {column: {"label": list(named), "text": texts}},
            {column: [f"{letter}. {text}" for letter, text in named.items()]},
            named,
            {f"选项{letter}": text for letter, text in named.items()} | {"选项G": "", "选项H": None},
            {f"op{letter.lower()}": text for letter, text in named.items()},
            {column: "\n".join(f"{letter}. {text}" for letter, text in named.items())},
        ]
        made = [with_options(question, {"question": question, **form}) for form in forms]
        assert made == [wanted] * len(forms)
        other = with_options(question, {**named, "B": "另一项"})
        assert for_likeness(other) != for_likeness(wanted) and not repeats([wanted, other])
        assert with_options(wanted, named) == wanted, "what says its options itself is left as it is"


def test_f31_two_rows_of_one_stem_with_other_options_are_two(tmp_path):
    stem = {"question": "下列哪项是负债？", "B": "存货", "C": "商誉", "D": "专利", "answer": "A"}
    tables.write_rows(tmp_path / "q.csv", [{**stem, "A": "应付账款"}, {**stem, "A": "应付票据"}])
    rows = tables.read_rows(tmp_path / "q.csv")
    asked = [finance.problem(row, finance.columns(list(row), {}), "own") for row in rows]
    assert not repeats([row["question"] for row in asked]) and asked[0]["id"] != asked[1]["id"]


def test_columns_called_by_a_letter_alone_are_no_options():
    for cells in ({"A": "一"}, {"B": "二", "C": "三"}, {"a_b": "x"}, {"A": "", "B": ""}, {"options": ""}, {"options": "[]"}):
        assert with_options("哪项？", cells) == "哪项？"
    for names in itertools.permutations(["C", "A", "B"]):
        assert with_options("哪项？", {name: f"{name}项" for name in names}) == "哪项？\nA. A项\nB. B项\nC. C项"
