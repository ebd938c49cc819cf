"""One file means one thing: tools, ms-swift's data sets and the doctor read the same rows of it, and tell the same fault."""

import json
import random
from types import SimpleNamespace

import openpyxl
import overtake
import pandas
import pytest
from overtake.data import files
from overtake.data.cells import cells
from overtake.data.tables import BadInput, read_rows, write_rows
from overtake.doctor import rows as doctor
from overtake.tasks.finance.rewards import finance_accuracy
from swift.dataset import load_dataset

SIGNS = [
    "=",
    "+",
    "-",
    "@",
    "＝",
    "＠",
    "'",
    " ",
    "\t",
    "\r",
    "\n",
    "\0",
    "\u2028",
    "\x85",
    "\u3000",
    "_x0041_",
    ",",
    '"',
    ";",
    "NA",
    "001",
]
SIGNS += ["字", "é", "😀", "1.50", "nan", "null", "\x0b", "é", "\ufeff", "{", "[", "\\", "0"]


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    overtake.register()


def by_training(path):
    """The rows as a registered data set is given them."""
    seen = []

    def to_sample(row):
        seen.append(dict(row))
        return {"messages": [{"role": "user", "content": "q"}]} if row["id"] else None

    meta = files.dataset_meta("overtake/rows", to_sample)
    meta.loader().load(SimpleNamespace(subsets=str(path).split("/"), dataset=""), meta)
    return seen[1:]  # the first is asked whether the columns would do


def by_doctor(path):
    return [cells(row) for row in doctor.read(path)]


READERS = {"tools": read_rows, "training": by_training, "doctor": by_doctor}


def text(rng):
    return "".join(rng.choice(SIGNS) for _ in range(rng.randint(0, 5)))


def forms(folder, rows, rng):
    """The rows in each format, as our writer and as others write them."""
    for suffix in (".xlsx", ".csv", ".jsonl", ".CSV", ".JSONL", ".XlsX"):
        write_rows(folder / f"ours{suffix}", rows)
        yield folder / f"ours{suffix}"
    bom = rng.choice([b"", b"\xef\xbb\xbf"])
    lines = "".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in rows).encode()
    (folder / "theirs.jsonl").write_bytes(bom + lines)
    (folder / "lines.json").write_bytes(bom + lines)
    (folder / "list.json").write_bytes(bom + json.dumps(rows, ensure_ascii=False, indent=rng.choice([None, 1])).encode())
    pandas.DataFrame(rows).to_parquet(folder / "t.parquet")
    yield from (folder / name for name in ("theirs.jsonl", "lines.json", "list.json", "t.parquet"))


def test_k6_random_tables_are_the_same_rows_for_every_reader_in_every_format(tmp_path):
    """500 random rows in five tables, each in ten files, read by three readers."""
    for seed in range(5):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        rows = [{"id": f"{number:03}", "a": text(rng), "b": text(rng), "c": text(rng)} for number in range(100)]
        for path in forms(folder, rows, rng):
            for name, reader in READERS.items():
                assert reader(path) == rows, (name, path)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_k6_other_encodings_are_refused_in_the_same_words_by_every_reader(tmp_path, encoding, suffix):
    path = tmp_path / f"t{suffix}"
    plain = {".csv": "id,a\n1,2\n3,问题\n", ".jsonl": '{"id": "1"}\n{"id": "问题"}\n', ".json": '{"id": "1"}\n{"id": "问题"}\n'}[suffix]
    path.write_bytes(plain.encode(encoding))
    told = set()
    for reader in READERS.values():
        with pytest.raises(BadInput) as error:
            reader(path)
        told.add(str(error.value))
    [words] = told
    line = {".csv": 3, ".jsonl": 2, ".json": 2}[suffix] if encoding == "gb18030" else 1
    assert words.startswith(f"{path}: line {line}: ") and words.endswith("save the file as UTF-8 (Excel: CSV UTF-8)")


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_f19_cells_that_say_na_are_answers(tmp_path, suffix):
    rows = [
        {"question": "ISO code of Namibia", "golden_answers": "NA", "answer_hat": "NA", "label": "correct"},
        {"question": "What did he add?", "golden_answers": "nothing", "answer_hat": "None", "label": "None"},
        {"question": "the word for no value in SQL", "golden_answers": "NULL", "answer_hat": "null", "label": "correct"},
        {"question": "capital of Norway", "golden_answers": "Oslo", "answer_hat": "nan", "label": "incorrect"},
    ]
    path = tmp_path / f"j{suffix}"
    frame = pandas.DataFrame(rows)
    if suffix == ".xlsx":
        frame.to_excel(path, index=False)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        write_rows(path, rows)
    found, _ = load_dataset([f"overtake/judge:{path}"], remove_unused_columns=False)
    assert found["judge_answer"] == ['["NA"]', '["nothing"]', '["NULL"]', '["Oslo"]'] and found["judge_main"][1] == "none"


def test_f20_the_columns_of_a_csv_are_the_text_that_stands_there(tmp_path):
    rows = [
        {"id": f"00{at}", "question": f"第{at}年的收入比是多少？", "gold_answer": gold}
        for at, gold in enumerate(["1.50", "2.5", "3", "0800"], 1)
    ]
    write_rows(tmp_path / "f.csv", rows)
    found, _ = load_dataset([f"overtake/finance:{tmp_path / 'f.csv'}"], remove_unused_columns=False)
    assert (found["fin_gold"], found["fin_id"]) == (["1.50", "2.5", "3", "0800"], ["001", "002", "003", "004"])
    assert finance_accuracy.score("<answer>1.52</answer>", found[0]["fin_gold"], "calculation", found[0]["fin_question"]) == 0.0


def test_f21_what_our_writer_quoted_is_unquoted_for_training(tmp_path):
    row = {"original_query": "=2+2等于几", "rewritten_query": "-8度 穿什么", "tenant_id": "fivedoctors"}
    write_rows(tmp_path / "f.csv", [row])
    found, _ = load_dataset([f"overtake/query_rewrite:{tmp_path / 'f.csv'}"], remove_unused_columns=False)
    assert (found[0]["rag_query"], found[0]["rag_teacher_rewrite"]) == ("=2+2等于几", "-8度 穿什么")
    golds = [{"question": f"第{at}年增长多少？", "gold_answer": gold} for at, gold in enumerate(["-5%", "+3.2%"])]
    write_rows(tmp_path / "g.csv", golds)
    found, _ = load_dataset([f"overtake/finance:{tmp_path / 'g.csv'}"], remove_unused_columns=False)
    assert found["fin_gold"] == ["-5%", "+3.2%"]


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl", ".XLSX", ".Csv", ".JsonL"])
def test_f22_f24_a_header_with_blanks_and_a_suffix_in_capitals_are_read(tmp_path, suffix):
    row = {"问题 ": "去年收入200万元，今年增长10%，今年收入是多少？", "\u3000答案": "220万元"}
    path = tmp_path / f"UP{suffix}"
    book = openpyxl.Workbook()
    for line in (list(row), list(row.values())):
        book.active.append(line)
    if suffix.lower() == ".xlsx":
        book.save(path)
    else:
        path.write_text(
            json.dumps(row) + "\n" if suffix.lower() == ".jsonl" else "\n".join(map(",".join, (row, row.values()))), encoding="utf-8"
        )
    found, _ = load_dataset([f"overtake/finance:{path}"], remove_unused_columns=False)
    assert found["fin_gold"] == ["220万元"]
    assert list(read_rows(path)[0]) == ["问题", "答案"]
    assert doctor.files([f"overtake/finance:{path}#5"]) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"id": "a"}\n' * 6 + b'{"messages": [{"role": "us\n{"id": "b"}\n', "line 7: .* is not JSON .*: write one object"),
        ('{"id": "a"}\n{"id": "头发干枯"}\n'.encode("gbk"), "line 2: byte 0x.. is not UTF-8: save the file as UTF-8"),
        (b'[{"id": "a"}]\n', "line 1: .* is not an object: write one object a line"),
        (b'{"id": "a"}\n"x"\n', "line 2: .* is not an object: write one object a line"),
        (b'{"id": "a", "b": "\\ud800"}\n', "line 1: .*surrogates"),
    ],
)  # fmt: skip
def test_f23_a_fault_in_a_jsonl_has_its_file_line_and_remedy_for_every_reader(tmp_path, content, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    for reader in READERS.values():
        with pytest.raises(BadInput, match=r"rows\.jsonl: " + words):
            reader(path)


def test_a_row_at_fault_is_named_by_a_data_set_as_by_the_tools(tmp_path):
    rows = [{"question": "q", "golden_answers": "a", "answer_hat": "b", "label": label} for label in ("1", "maybe")]
    write_rows(tmp_path / "j.xlsx", rows)
    with pytest.raises(BadInput, match=r"j\.xlsx: row 3: the label is 'maybe'"):
        load_dataset([f"overtake/judge:{tmp_path / 'j.xlsx'}"])
    write_rows(tmp_path / "j.csv", [{**rows[0], "label": ""}])
    with pytest.raises(BadInput, match=r"j\.csv: none of its 1 rows is an example"):
        load_dataset([f"overtake/judge:{tmp_path / 'j.csv'}"])


def test_a_named_table_joins_a_file_that_ms_swift_reads_itself_and_streams(tmp_path):
    write_rows(tmp_path / "a.csv", [{"question": "嗓子疼了两天要不要去医院", "answer": "先休息多喝水。"}])
    plain = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "b.jsonl").write_text(json.dumps(plain) + "\n", encoding="utf-8")
    found, _ = load_dataset([f"overtake/medical:{tmp_path / 'a.csv'}", str(tmp_path / "b.jsonl")])
    assert [row["messages"][-1]["content"] for row in found] == ["先休息多喝水。", "a"]
    streamed, _ = load_dataset([f"overtake/medical:{tmp_path / 'a.csv'}"], streaming=True)
    assert [row["messages"][-1]["content"] for row in streamed] == ["先休息多喝水。"]


def test_the_index_that_pandas_writes_is_no_column(tmp_path):
    pandas.DataFrame({"a": ["x", "y"]}).to_csv(tmp_path / "t.csv")
    assert read_rows(tmp_path / "t.csv") == [{"a": "x"}, {"a": "y"}]
    (tmp_path / "t.csv").write_text(",a\n7,x\n8,y\n")
    with pytest.raises(BadInput, match="column 1 holds values but no name"):
        read_rows(tmp_path / "t.csv")
