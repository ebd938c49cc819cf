"""Converting: the split comes before the filter, no question stands on two sides, same input gives the same bytes."""

import errno
import json

import pytest
from overtake.data import tables
from overtake.data.tables import write_rows
from overtake.reading.normal_forms import for_likeness
from overtake.tasks.query_rewrite import convert as converting
from overtake.tasks.query_rewrite import prompts

FILES = ("train.jsonl", "val.jsonl", "rl_train.jsonl", "rl_val.jsonl", "test.jsonl")


def row(i, **changed):
    """A validated row that passes the filter."""
    made = {
        "query_id": f"q{i}",
        "original_query": f"第{i}个问题怎么吃",
        "rewritten_query": f"胶原蛋白肽 食用方法 {i}",
        "user_profile": "",
        "history_summary": "",
        "tenant_id": "fivedoctors",
        "teacher_model": "gpt-5-2025",
        "kb_name": "default",
        "recall_count": 1,
        "top1_score": 0.9,
        "success": True,
        "recall": [["d1", 0.9]],
        "original_recall_count": 1,
        "original_top1_score": 0.7,
        "original_recall": [["d2", 0.7]],
        "quality": 0.9,
        "original_quality": 0.7,
        "gain": 0.2,
        "gold": "",
        "basis": "reranker",
    }
    return {**made, **changed}


@pytest.fixture
def convert(run, tmp_path):
    """convert(rows, *options) -> what the run said, with every file's rows and the stats."""

    def convert(rows, *options, name="in.xlsx", out="out"):
        write_rows(tmp_path / name, rows)
        done = run(converting, tmp_path / name, tmp_path / out, *options)
        for file in FILES:
            path = tmp_path / out / file
            lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
            setattr(done, file.split(".")[0], [json.loads(line) for line in lines])
        stats = tmp_path / out / "convert_stats.json"
        done.stats = json.loads(stats.read_text("utf-8")) if stats.exists() else None
        return done

    return convert


def ids(rows):
    return {row.get("rag_query_id") or row["metadata"]["query_id"] for row in rows}


def test_a_run_that_validates_on_nothing_needs_no_rows_for_it(convert, tmp_path):
    """Of a small teacher's rewrites few are worth learning, and a tenth of a few may be none."""
    done = convert([row(i, quality=0.5 if i else 0.0, gold=["d1"]) for i in range(20)], "--split", "0.9", "0", "0.1")
    assert done.code == 0, done.err
    assert done.stats["drawn"] == {"train": 18, "val": 0, "test": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "convert_stats.json",
        "rl_train.jsonl",
        "test.jsonl",
        "train.jsonl",
    ]


def test_files_hold_what_training_needs(convert):
    rows = [row(i, user_profile="孕妇", history_summary="问过钙", judge_score=4.5, gold=["d1"]) for i in range(20)]
    done = convert(rows)
    assert done.code == 0, done.err
    assert [len(getattr(done, file.split(".")[0])) for file in FILES] == [16, 2, 16, 2, 2]
    sample = done.train[0]
    number = sample["metadata"]["query_id"][1:]
    prompt = prompts.rewrite_messages("fivedoctors", f"第{number}个问题怎么吃", "孕妇", "问过钙")
    assert sample == {
        "messages": [*prompt, {"role": "assistant", "content": f"胶原蛋白肽 食用方法 {number}"}],
        "metadata": {"query_id": f"q{number}", "top1_score": 0.9, "source": "gpt-5-2025"},
    }
    number = done.test[0]["rag_query_id"][1:]
    assert done.test[0] == {
        "messages": prompts.rewrite_messages("fivedoctors", f"第{number}个问题怎么吃", "孕妇", "问过钙"),
        "rag_query_id": f"q{number}",
        "rag_query": f"第{number}个问题怎么吃",
        "rag_tenant": "fivedoctors",
        "rag_kb": "default",
        "rag_profile": "孕妇",
        "rag_history": "问过钙",
        "rag_gold": '["d1"]',
        "rag_teacher_rewrite": f"胶原蛋白肽 食用方法 {number}",
        "rag_teacher_recall": '[["d1", 0.9]]',
        "rag_teacher_judge": "4.5",
        "rag_original_recall": '[["d2", 0.7]]',
        # No folder was named in which a document's text would stand.
        "teacher_prompt": prompts.self_teacher_prompt(
            f"用户画像：孕妇\n历史摘要：问过钙\n问题：第{number}个问题怎么吃", f"胶原蛋白肽 食用方法 {number}", ""
        ),
    }


def test_the_student_as_its_own_teacher_sees_the_labelled_passage_else_the_best_recalled_one(convert, tmp_path):
    corpus = [
        {"_id": "d1", "title": "胶原蛋白肽", "text": "每日{rewrite}十克 " + "长" * 500},
        {"_id": "d3", "title": "", "text": "随餐服用"},
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in corpus), "utf-8")
    rows = [row(i, gold=["d3"] if i % 2 else "") for i in range(20)]
    done = convert(rows, "--corpus", tmp_path)
    assert done.code == 0, done.err
    for line in done.rl_train + done.rl_val:
        number = int(line["rag_query_id"][1:])
        asked, shown = line["teacher_prompt"].split("\n", 1)
        assert asked == f"第{number}个问题怎么吃" == line["messages"][-1]["content"]
        passage = "随餐服用" if number % 2 else f"胶原蛋白肽 每日{{rewrite}}十克 {'长' * 500}"[:400]
        assert shown.splitlines()[2:] == [f"一句已知的改写：胶原蛋白肽 食用方法 {number}", f"答案所在的资料：{passage}"]
    assert "no such" in convert(rows, "--corpus", tmp_path / "nowhere", out="other").err
    assert {tuple(line) for line in done.rl_train + done.rl_val + done.test} == {tuple(done.test[0])}


def test_the_filter_touches_only_what_is_imitated(convert):
    bad = [
        row(100, top1_score=0.59),
        row(101, success=False, top1_score=0, recall=[], recall_count=0),
        row(102, rewritten_query="第102个问题 怎么吃？"),
        row(103, gain=-0.01),
    ]
    rows = [row(i) for i in range(36)] + bad
    plain, strict = convert(rows, out="plain"), convert(rows, "--require-gain", out="strict")
    for done, dropped in ((plain, {"q100", "q101", "q102"}), (strict, {"q100", "q101", "q102", "q103"})):
        assert done.code == 0
        assert ids(done.rl_train) - ids(done.train) == dropped & ids(done.rl_train)
        assert ids(done.rl_val) - ids(done.val) == dropped & ids(done.rl_val)
        assert ids(done.rl_train) | ids(done.rl_val) | ids(done.test) == {line["query_id"] for line in rows}
    assert ids(plain.test) == ids(strict.test) and ids(plain.rl_train) == ids(strict.rl_train)
    counted = {name: count for side in strict.stats["dropped"].values() for name, count in side.items()}
    assert set(counted) <= {"nothing recalled", "top1_score below 0.6", "rewrite copies the query", "retrieves worse than the original"}
    assert strict.stats["drawn"] == {"train": 32, "val": 4, "test": 4}
    assert strict.stats["files"]["train.jsonl"] == 32 - sum(strict.stats["dropped"]["train"].values())
    assert (strict.stats["seed"], strict.stats["split"], strict.stats["require_gain"]) == (20, [0.8, 0.1, 0.1], True)


def test_min_top1_includes_the_bound(convert):
    done = convert([row(i, top1_score=0.6 if i % 2 else 0.5999) for i in range(40)])
    assert done.code == 0
    assert all(int(line["metadata"]["query_id"][1:]) % 2 for line in done.train + done.val)
    assert ids(convert([row(i, top1_score=0.5) for i in range(40)], "--min-top1", 0.5).train)


def test_labels_are_asked_what_a_rewrite_is_worth_and_not_whether_gold_stands_first(convert):
    rows = [row(i, gold=["d1"], top1_score=0.0, quality=0.2, gain=0.2) for i in range(30)]
    rows += [row(100 + i, gold=["d1"], top1_score=0.0, quality=0.0, gain=0.0) for i in range(10)]
    rows += [row(200 + i, gold=["d1"], top1_score=1.0, quality=0.5, gain=-0.3) for i in range(10)]
    done = convert(rows)
    assert done.code == 0, done.err
    assert all(int(name[1:]) < 100 for name in ids(done.train + done.val))
    assert ids(done.rl_train) - ids(done.train) == {name for name in ids(done.rl_train) if int(name[1:]) >= 100}
    counted = {name for side in done.stats["dropped"].values() for name in side}
    assert counted == {"no labelled document recalled", "retrieves worse than the original"}


def test_no_question_stands_on_two_sides(convert):
    ways = ["第{}个问题怎么吃", "第{}个问题，怎么吃？", " 第{}个问题　怎么吃！", "第{}个問題怎么吃"]
    rows = [row(f"{i}-{k}", original_query=way.format(i)) for i in range(30) for k, way in enumerate(ways)]
    done = convert(rows)
    assert done.code == 0
    sides = [{for_likeness(line["rag_query"]) for line in side} for side in (done.rl_train, done.rl_val, done.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert done.stats["questions"] == 60 and [len(side) for side in sides] == [48, 6, 6]


def test_same_input_and_seed_give_the_same_bytes_in_every_format(convert, tmp_path):
    rows = [row(i) for i in range(30)]
    found = []
    for name, out in (("a.xlsx", "a"), ("b.csv", "b"), ("c.jsonl", "c"), ("c.jsonl", "again")):
        assert convert(rows, name=name, out=out).code == 0
        found.append({file: (tmp_path / out / file).read_bytes() for file in FILES})
    assert found[0] == found[1] == found[2] == found[3]
    # Excel keeps the second in which a sheet was written, so its fingerprint in the statistics is another.
    assert (tmp_path / "c" / "convert_stats.json").read_bytes() == (tmp_path / "again" / "convert_stats.json").read_bytes()
    assert convert(rows, "--seed", 21, name="a.xlsx", out="other").code == 0
    assert (tmp_path / "other" / "test.jsonl").read_bytes() != found[0]["test.jsonl"]
    # The side of a question does not depend on where it stands in the sheet.
    assert ids(convert(rows[::-1], out="reversed").test) == ids(convert(rows, out="forward").test)


@pytest.fixture
def labels(tmp_path):
    """labels(test=["q1"], …) -> a folder with these splits."""

    def labels(**splits):
        folder = tmp_path / "kb"
        (folder / "qrels").mkdir(parents=True)
        for split, names in splits.items():
            text = "query-id\tcorpus-id\tscore\n" + "".join(f"{name}\td1\t1\n" for name in names)
            (folder / "qrels" / f"{split}.tsv").write_text(text)
        return folder

    return labels


def test_published_questions_are_the_held_out_side(convert, labels):
    folder = labels(test=["q0", "q1", "q2", "absent"], train=[f"q{i}" for i in range(3, 21)])
    twin = row("twin", original_query="第1个问题，怎么吃？")
    done = convert([*(row(i) for i in range(21)), twin], "--qrels", folder)
    assert done.code == 0, done.err
    assert ids(done.test) == {"q0", "q1", "q2"}
    assert (len(done.rl_train), len(done.rl_val)) == (16, 2)
    assert "qtwin" not in ids(done.rl_train) | ids(done.rl_val)  # it asks a held-out question
    assert done.stats["left_out_same_question_as_held_out"] == ["qtwin"]
    assert done.stats["held_out_by"] == "qrels"


def test_a_published_development_side_is_kept_too(convert, labels):
    folder = labels(test=["q0", "q1"], dev=["q2", "q3", "q1"])
    done = convert([row(i) for i in range(10)], "--qrels", folder)
    assert done.code == 0, done.err
    assert ids(done.test) == {"q0", "q1"} and ids(done.rl_val) == {"q2", "q3"} and ids(done.rl_train) == {f"q{i}" for i in range(4, 10)}


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([row(i) for i in range(4)], [], "test.jsonl would be empty: of 4 rows 3 train, 1 val, 0 test were drawn"),
        (
            [row(i, top1_score=0.1) for i in range(20)],
            [],
            "the filter dropped 16 top1_score below 0.6 of train, 2 top1_score below 0.6 of val",
        ),
        ([row(i) for i in range(20)], ["--split", "0.8", "0.1", "0.2"], "--split 0.8 0.1 0.2: give three positive shares that sum to 1"),
        ([row(i) for i in range(20)], ["--split", "0.9", "0.1", "0"], "give three positive shares"),
        ([row(i) for i in range(20)], ["--split", "1.1", "-0.2", "0.1"], "give three positive shares"),
        ([row(i) for i in range(20)], ["--split", "nan", "0.1", "0.1"], "give three positive shares"),
        ([{"query_id": "q", "original_query": "a", "rewritten_query": "b"}], [], "give the sheet that tools/validate.py writes"),
        ([row(1, recall="[[")], [], "row 2: recall is '[[', not [[doc_id, score], …] as JSON"),
        ([row(0), row(1, original_recall=[1])], [], "row 3: original_recall is '[1]'"),
        ([row(1, gold="d1")], [], "row 2: gold is 'd1', not a list of document ids"),
        ([row(1, top1_score="high")], [], "row 2: top1_score is 'high', no number: run tools/validate.py again"),
        ([row(1, top1_score="nan")], [], "top1_score is 'nan'"),
        ([row(1, judge_score="9")], [], "judge_score is '9', no number from 0 to 5"),
        ([row(1, success="yes")], [], "success is 'yes': write true or false"),
        ([row(1, tenant_id="nobody")], [], "row 2: tenant_id 'nobody': there are"),
        ([row(1, rewritten_query="")], [], "row 2: rewritten_query is blank"),
        ([row(1), row(1)], [], "row 3: query_id 'q1' stands already in row 2"),
        ([row(1)], ["--qrels", "nowhere"], "--qrels"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(convert, tmp_path, rows, options, message):
    done = convert(rows, *options, name="in.csv")
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err and message in done.err, done.err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"] and done.out == ""


def test_full_disk_leaves_the_old_files_whole(convert, tmp_path, monkeypatch):
    rows = [row(i) for i in range(20)]
    assert convert(rows).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    calls = []
    real = tables.os.fsync

    def full_at_fourth(descriptor):
        calls.append(1)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    write_rows(tmp_path / "in.xlsx", rows)
    monkeypatch.setattr(tables.os, "fsync", full_at_fourth)
    done = convert(rows, "--seed", "5")  # one fsync is the sheet's own
    assert done.code == 2 and "No space left on device" in done.err and "\n" not in done.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_sheet_in_the_folder_to_write_is_not_written_over(convert, tmp_path):
    """`convert.py data/test.jsonl data` would make the held-out side of its own input."""
    done = convert([row(i) for i in range(30)], name="out/test.jsonl")
    assert done.code == 2 and "out/test.jsonl is an input of this run and would be written over: name another place" in done.err
    assert len(done.test) == 30 and not done.train and done.stats is None
