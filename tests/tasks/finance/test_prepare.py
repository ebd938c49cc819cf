"""Preparing: tables of others become problems; what is left out is counted by reason and listed; nothing is half-written."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from overtake.data.tables import write_rows
from overtake.tasks.finance import prepare as preparing

pytestmark = pytest.mark.usefixtures("fresh")
GROWTH = "2023年收入1000万元，比上年增长25%，2022年收入多少？"


@pytest.fixture
def prepare(run, tmp_path):
    """prepare(*arguments) -> the run, raw.jsonl, left_out.jsonl and the statistics."""

    def prepare(*arguments):
        out = tmp_path / "out"
        done = run(preparing, *arguments, out)
        if not out.exists():
            return SimpleNamespace(done=done, raw=None)
        stats = json.loads((out / "prepare_stats.json").read_text("utf-8"))
        return SimpleNamespace(done=done, raw=lines(out / "raw.jsonl"), left_out=lines(out / "left_out.jsonl"), stats=stats)

    return prepare


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def table(path, rows):
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    elif path.suffix == ".parquet":
        import pandas

        pandas.DataFrame(rows).to_parquet(path)
    else:
        write_rows(path, rows)
    return path


@pytest.mark.parametrize("ending", ["xlsx", "csv", "jsonl", "json", "parquet"])
def test_a_table_of_ones_own_becomes_problems_whatever_its_format(prepare, tmp_path, ending):
    names = ("编号", "题目", "标准答案", "题型")
    asked = [("7", GROWTH, "800万元", ""), ("8", "什么是市盈率？", "股价比每股收益", "概念题")]
    rows = [dict(zip(names, row, strict=True)) for row in asked]
    made = prepare(table(tmp_path / f"mine.{ending}", rows))
    assert made.done.code == 0, made.done.err
    assert made.raw == [
        {"id": "7", "question": GROWTH, "gold_answer": "800万元", "type": "calculation", "source": "mine"},
        {"id": "8", "question": "什么是市盈率？", "gold_answer": "股价比每股收益", "type": "concept", "source": "mine"},
    ]
    assert made.stats["types"] == {"calculation": 1, "concept": 1} and made.stats["left_out"] == {}
    assert "2 rows in, 0 left out (none), 2 usable, 2 taken (1 calculation, 1 concept)" in made.done.out


def test_columns_can_be_named(prepare, tmp_path):
    path = table(tmp_path / "mine.csv", [{"q": "什么是久期？", "question": "no", "a": "回收时间", "k": "推理", "nr": "x1"}])
    made = prepare(path, "--question-column", "q", "--answer-column", "a", "--type-column", "k", "--id-column", "nr")
    assert made.raw == [{"id": "x1", "question": "什么是久期？", "gold_answer": "回收时间", "type": "reasoning", "source": "mine"}]


def dianjin(folder):
    folder.mkdir()
    solution = "<think>A错</think>\n<answer>故选 \\boxed{B}</answer>"
    table(folder / "cflue_mcq.json", [{"instruction": "下列属于流动资产的是？\nA. 厂房 B. 存货", "output": solution}])
    asked = {"instruction": "Revenue was 80, then 100. Growth?", "input": "in percent"}
    table(folder / "fin_qa.json", [{**asked, "output": "<answer>\\boxed{25%}</answer>"}])
    (folder / "dataset_infos.json").write_text("{}")
    return folder


HUBS = [("hf::DianJin/DianJin-R1-Data", "huggingface_hub"), ("ms::tongyi_dianjin/DianJin-R1-Data", "modelscope")]


@pytest.mark.parametrize(("name", "hub"), HUBS)
def test_a_hubs_files_are_read_and_the_answer_is_taken_out_of_the_solution(prepare, tmp_path, monkeypatch, name, hub):
    fetched = []
    folder = dianjin(tmp_path / "hub")
    call = "snapshot_download" if hub == "huggingface_hub" else "dataset_snapshot_download"
    monkeypatch.setattr(f"{hub}.{call}", lambda one, **_: fetched.append(one) or str(folder))
    made = prepare(name)
    assert made.done.code == 0, made.done.err
    assert fetched == [name.partition("::")[2]]
    bare = [{key: text for key, text in row.items() if key != "id"} for row in made.raw]
    mcq, qa = (f"{fetched[0]}/{stem}" for stem in ("cflue_mcq", "fin_qa"))
    assert bare == [
        {"question": "下列属于流动资产的是？\nA. 厂房 B. 存货", "gold_answer": "B", "type": "concept", "source": mcq},
        {"question": "Revenue was 80, then 100. Growth?\nin percent", "gold_answer": "25%", "type": "calculation", "source": qa},
    ]
    assert len({row["id"] for row in made.raw}) == 2
    local = prepare(folder)
    assert [row["question"] for row in local.raw] == [row["question"] for row in made.raw], "the folder does without the hub"


@pytest.mark.parametrize(("name", "hub"), [("hf::some/set", "Hugging Face"), ("some/set", "ModelScope")])
def test_a_hub_that_cannot_be_reached_is_one_line_with_the_way_around_it(prepare, monkeypatch, name, hub):
    def unreachable(*_, **__):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("modelscope.dataset_snapshot_download", unreachable)
    done = prepare(name).done
    assert done.code == 2 and "\n" not in done.err
    assert f"error: {name} could not be fetched from {hub} (ConnectionError: name resolution failed)" in done.err
    assert "give the folder or file instead of the name" in done.err


def test_everything_left_out_is_counted_by_reason_and_listed(prepare, tmp_path):
    held_out = table(tmp_path / "test.jsonl", [{"prompt": "本金10万元，年利率4%，三年利息多少？", "gold_answer": "1.2万元"}])
    rows = [
        ("a", GROWTH, "800万元"),
        ("b", " ", "1"),
        ("c", "什么是久期？", " "),
        ("d", GROWTH.replace("，", ","), "800万元"),
        ("e", "请计算：" + GROWTH, "800万元"),
        ("f", GROWTH.replace("1000", "1200"), "960万元"),
        ("g", "本金10万元,年利率4%,三年利息多少", "1.2万元"),
        ("h", "本金10万元，年利率4%，三年的利息多少？", "1.2万元"),
        ("i", "收入80万元，成本60万元，毛利多少？", "80-60=30万元"),
        ("j", "什么是凸性？", "……"),
        ("k", "收入80万元，成本50万元，毛利多少？", "80-50=30万元"),
    ]
    mine = table(tmp_path / "mine.jsonl", [dict(zip(("id", "question", "answer"), row, strict=True)) for row in rows])
    made = prepare(mine, "--test-file", held_out)
    assert [row["id"] for row in made.raw] == ["a", "f", "k"] and made.raw[-1]["gold_answer"] == "30万元"
    reasons = {
        "the question is blank": "b",
        "the gold answer is blank": "c",
        "the gold answer cannot be graded by the rules": "j",
        "the gold answer contradicts its own calculation": "i",
        "same question as another row": "d",
        "nearly the same question as another row": "e",
        "same question as a test row": "g",
        "nearly the same question as a test row": "h",
    }
    assert {row["reason"]: row["id"] for row in made.left_out} == reasons
    assert made.stats["left_out"] == dict.fromkeys(sorted(reasons), 1) and made.stats["test_rows"] == 1
    assert made.left_out[-1]["of"] == "本金10万元，年利率4%，三年利息多少？" and made.left_out[0]["where"] == "mine.jsonl: row 2"
    assert "11 rows in, 8 left out" in made.done.out


def test_a_sample_keeps_the_shares_of_types_and_is_the_same_for_the_same_seed(prepare, tmp_path):
    rows = [{"question": f"本金{i}万元，年利率4%，一年利息多少？", "answer": f"{i * 4 / 100}万元"} for i in range(1, 61)]
    rows += [{"question": f"什么是{word}？", "answer": "一个概念"} for word in "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉"]
    path = table(tmp_path / "mine.jsonl", rows)
    first = prepare(path, "--sample", 20)
    assert Counter(row["type"] for row in first.raw) == {"calculation": 15, "concept": 5}
    assert prepare(path, "--sample", 20).raw == first.raw != prepare(path, "--sample", 20, "--seed", 1).raw


def test_an_id_that_two_files_use_is_told_apart(prepare, tmp_path):
    one = table(tmp_path / "one.csv", [{"id": "1", "question": "什么是久期？", "answer": "回收时间"}])
    two = table(tmp_path / "two.csv", [{"id": "1", "question": "什么是凸性？", "answer": "久期的变化"}])
    ids = [row["id"] for row in prepare(one, two).raw]
    assert ids[0] == "1" and ids[1].startswith("1-") and len(set(ids)) == 2


def test_the_teachers_second_opinion_is_listed_and_the_rule_stays(prepare, teacher, tmp_path):
    def reply(question, body):
        return "不清楚" if "凸性" in question else json.dumps({"type": "reasoning" if "久期" in question else "calculation"})

    teacher(reply)
    rows = [(GROWTH, "800万元"), ("什么是久期？", "回收时间"), ("什么是凸性？", "久期的变化")]
    made = prepare(table(tmp_path / "mine.jsonl", [{"question": one, "answer": two} for one, two in rows]), "--ask-teacher")
    assert made.done.code == 1 and "the teacher tells another type of 1 and none of 1" in made.done.out
    assert [row["type"] for row in made.raw] == ["calculation", "concept", "concept"]
    (line,) = (tmp_path / "out/type_disagreements.jsonl").read_text("utf-8").splitlines()
    told = json.loads(line)
    assert (told["question"], told["rule"], told["teacher"]) == ("什么是久期？", "concept", "reasoning")
    assert made.stats["teacher"] == {"asked": 3, "other_type": 1, "no_type": 1}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"列": "x"}],
            [],
            "mine.jsonl: no column question, 问题, 题目, 提问, query, prompt, instruction",
        ),
        ([{"问题": "x"}], [], "name one with --answer-column"),
        ([{"问题": "x", "答案": "y"}], ["--question-column", "题"], "mine.jsonl: no column 题; the columns there are 问题, 答案"),
        ([{"问题": " ", "答案": "y"}], [], "none of 1 rows is left (1 the question is blank): give other rows or columns"),
        ([{"问题": "x", "答案": "y"}], ["--ask-teacher"], "no teacher is set: export OVERTAKE_TEACHER_BASE_URL"),
        ([{"问题": "x", "答案": "y"}], ["--test-file", "absent.jsonl"], "absent.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(prepare, tmp_path, rows, options, message):
    made = prepare(table(tmp_path / "mine.jsonl", rows), *options)
    assert made.done.code == 2 and made.done.err.startswith("error: ") and "\n" not in made.done.err, made.done.err
    assert message in made.done.err and made.raw is None


def test_a_folder_without_tables_and_a_broken_list_are_refused(prepare, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty holds none of *.jsonl, *.json" in prepare(tmp_path / "empty").done.err
    for text, message in (('"x"', "rows.json: no list of objects"), ('[{"question": "x"}', "rows.json: not readable")):
        (tmp_path / "rows.json").write_text(text)
        done = prepare(tmp_path / "rows.json").done
        assert done.code == 2 and message in done.err and "\n" not in done.err, done.err
