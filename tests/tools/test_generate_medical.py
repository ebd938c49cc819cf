"""generate.py --task medical --rubrics: what the teacher is shown, what becomes of its items, what a doctor edited stays."""

import json

import pytest
from overtake.data import tables
from overtake.tasks.medical import rubrics
from overtake.tasks.medical.generate import read_rubrics

ROWS = [
    {"编号": "a", "问题": "胃胀怎么办？", "回答": "少量多餐；两周不好请就医。", "科室": "消化"},
    {"编号": "b", "问题": "我爸突然胸痛出冷汗，要不要等等？", "回答": "立即拨打120。", "科室": "急诊"},
    {"编号": "c", "问题": "", "回答": "好", "科室": ""},
    {"编号": "d", "问题": "咳嗽怎么办？", "回答": "多喝水。", "科室": "呼吸", "评分项": "[+5] 问多久了\n[-3] 推荐抗生素"},
]


def said(*items):
    return json.dumps({"评分项": [{"要求": text, "分值": points} for text, points in items]}, ensure_ascii=False)


def reply(question, body):
    return said(("说明原因；建议少量多餐", 5), ("说明两周不好要就医", 3), ("给出药物剂量", -5))


@pytest.fixture
def sheet(tmp_path):
    tables.write_rows(tmp_path / "in.xlsx", ROWS)
    return tmp_path / "in.xlsx"


def generate(run, *arguments):
    return run("generate", *arguments, "--task", "medical", "--rubrics")


def test_rubrics_are_written_beside_every_column_and_compound_ones_are_split(run, teacher, sheet, tmp_path):
    server = teacher(reply)
    done = generate(run, sheet, tmp_path / "out.xlsx")
    assert done.code == 0, done.err
    first, _, fourth = tables.read_rows(tmp_path / "out.xlsx")
    assert {name: first[name] for name in ROWS[0]} == ROWS[0] and first["rubrics_model"] == "stand-in"
    assert first["评分项"] == "[+2.5] 说明原因\n[+2.5] 建议少量多餐\n[+3] 说明两周不好要就医\n[-5] 给出药物剂量"
    assert (fourth["评分项"], fourth["rubrics_model"]) == (ROWS[3]["评分项"], ""), "what a row has is not asked for"
    assert "4 rows in, 2 got rubrics (0 from cache), 1 had theirs, 1 rejected, 0 failed" in done.out
    shown = server.requests[-1].body["messages"][1]["content"].splitlines()
    assert (
        shown[0].startswith("患者问题：")
        and shown[2].startswith("规则书：要求：")
        and "立刻就医（拨打 120、去急诊）"
        in "".join(
            request.body["messages"][1]["content"] for request in server.requests if "胸痛" in request.body["messages"][1]["content"]
        )
    )


def test_a_second_start_asks_for_what_failed_alone_and_keeps_what_a_doctor_edited(run, teacher, sheet, tmp_path, again, monkeypatch):
    broken = ["胃胀"]
    server = teacher(lambda question, body: "没有" if any(word in question for word in broken) else reply(question, body))
    done = generate(run, sheet, tmp_path / "out.xlsx")
    assert done.code == 1 and "1 failed" in done.out and (tmp_path / "out.xlsx.failed.jsonl").exists()
    rows = tables.read_rows(tmp_path / "out.xlsx")
    tables.write_rows(tmp_path / "out.xlsx", [rows[0] | {"评分项": "[+9] 医生改过"}, *rows[1:]])
    broken.clear()
    again()
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "another"))
    before = len(server.requests)
    assert generate(run, sheet, tmp_path / "out.xlsx").code == 0
    assert [row["评分项"][:9] for row in tables.read_rows(tmp_path / "out.xlsx")] == ["[+2.5] 说明", "[+9] 医生改过", "[+5] 问多久了"]
    assert len(server.requests) == before + 1 and not (tmp_path / "out.xlsx.failed.jsonl").exists()


def test_a_broken_cell_is_named_before_anything_is_asked(run, teacher, tmp_path):
    server = teacher(reply)
    tables.write_rows(tmp_path / "in.xlsx", [ROWS[0] | {"评分项": "要就医"}])
    done = generate(run, tmp_path / "in.xlsx", tmp_path / "out.xlsx")
    assert done.code == 2 and "in.xlsx: row 2, column 评分项: '要就医' has no points" in done.err and server.requests == []


UNUSABLE = [
    said(("说明原因", 5)),
    said(("说明原因", 5), ("说明原因。", 3)),
    said(("说明原因", 50), ("建议就医", 3)),
    said(("给出剂量", -5), ("许诺治愈", -5)),
    said(("建议就医", 5), ("不建议就医", 5)),
    said(("回答专业", 5), ("建议就医", 5)),
    '{"评分项": [{"要求": "建议就医", "分值": "5"}, {"要求": "说明原因", "分值": 3}]}',
    "[+5] 建议就医",
]


@pytest.mark.parametrize("text", UNUSABLE)
def test_a_teachers_items_are_read_strictly(text):
    with pytest.raises(ValueError):
        read_rubrics(text)


def test_a_teachers_items_are_read_from_a_fence():
    text = "```json\n" + said(("Calls 911 at once", 5), ("Explains the cause and recommends a check-up", 4)) + "\n```"
    assert [tuple(item) for item in rubrics.read(read_rubrics(text)["rubrics"])] == [
        ("Calls 911 at once", 5),
        ("Explains the cause", 2),
        ("recommends a check-up", 2),
    ]
