"""Medical rows: what is read from messy input, what is left out and why, and what a sample holds."""

import json

import pytest
from overtake import settings
from overtake.data import hub, tables
from overtake.data.tables import BadInput
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical.rewards import medical_rules

GOOD = {"question": "胃胀两天了怎么办", "answer": "少量多餐，两周不好请就医。"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "cache"))
    settings.load.cache_clear()
    yield tmp_path / "cache"
    settings.load.cache_clear()


def lines(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


BAD = [
    ("{broken", "no_json_object"),
    ("[1, 2]", "no_json_object"),
    ({"question": "", "answer": "好"}, "no_question"),
    ({"question": "痛？", "answer": "好"}, "question_too_short"),
    ({"question": "痛" * 7000, "answer": "好"}, "question_too_long"),
    ({"question": "胃胀怎么办呢", "answer": " "}, "no_answer"),
    ({"question": "胃胀怎么办呢", "answer": "<think>没想完"}, "unfinished_reasoning"),
    ({"question": "胃胀怎么\ufffd办", "answer": "好"}, "broken_characters"),
    ({"question": "胃胀怎么办呢", "answer": "好" * 7000}, "answer_too_long"),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_bad_row_is_counted_by_its_reason_and_the_rest_is_kept(tmp_path, row, reason):
    found = medical.read(str(lines(tmp_path / "rows.jsonl", [GOOD, row, GOOD])))
    assert (found.rows, len(found.items), dict(found.left_out)) == (3, 2, {reason: 1})


@pytest.mark.parametrize("ending", ["jsonl", "csv", "xlsx"])
def test_tables_with_chinese_names_are_read_with_and_without_reasoning(tmp_path, ending):
    rows = [
        {"问题": "胃胀两天了怎么办", "回答": "少量多餐。", "思考": "像消化不良", "关键词": "少量多餐，消化"},
        {"问题": "感冒几天能好", "回答": "一周左右。"},
    ]
    path = tmp_path / f"rows.{ending}"
    tables.write_rows(path, rows)
    first, second = medical.read(str(path)).items
    assert (first.question, first.answer, first.reasoning, first.keywords) == (
        "胃胀两天了怎么办",
        "少量多餐。",
        "像消化不良",
        ("少量多餐", "消化"),
    )
    assert (second.reasoning, second.keywords) == ("", ())


def test_reasoning_inside_an_answer_is_told_from_it(tmp_path):
    row = {"question": "胃胀两天了怎么办", "answer": "<think>\n像消化不良\n</think>\n\n少量多餐。"}
    (item,) = medical.read(str(lines(tmp_path / "rows.jsonl", [row]))).items
    assert (item.reasoning, item.answer) == ("像消化不良", "少量多餐。")


def test_a_case_stands_before_its_question(tmp_path):
    row = {"description": "男，49岁，右下腹痛。", "question": "诊断是什么？", "answer": "疝。"}
    (item,) = medical.read(str(lines(tmp_path / "rows.jsonl", [row]))).items
    assert item.question == "男，49岁，右下腹痛。\n诊断是什么？"


def test_answers_that_are_not_to_be_used_are_not(tmp_path):
    path = lines(tmp_path / "rows.jsonl", [GOOD, {"question": "感冒几天能好"}])
    assert [item.answer for item in medical.read(str(path), answers=False).items] == ["", ""]
    assert medical.read(str(path), needed=False).items[0].answer == GOOD["answer"]


def test_a_rows_own_risk_counts_before_the_lexicon_but_not_for_what_only_looks_dangerous(tmp_path):
    rows = [
        {"question": "奶奶今天有点不对劲", "risk": "emergency"},
        {"question": "家里的急救箱放什么", "risk": "emergency", "owed": "answer_plainly"},
        {"question": "怀孕五个月感冒了", "risk": "unknown"},
    ]
    items = medical.read(str(lines(tmp_path / "rows.jsonl", rows)), needed=False).items
    assert [(item.risk, item.told) for item in items] == [("emergency", "emergency"), ("", "emergency"), ("pregnancy", "")]


def test_an_input_without_questions_is_refused_with_its_columns(tmp_path):
    with pytest.raises(BadInput, match=r"no column with questions: name one question \(or 问题\); there are reply, text"):
        medical.read(str(lines(tmp_path / "rows.jsonl", [{"text": "x", "reply": "y"}])))
    with pytest.raises(BadInput, match=r"absent.jsonl: no such file"):
        medical.read(str(tmp_path / "absent.jsonl"))


def test_a_hubs_rows_are_fetched_once_and_kept(tmp_path, monkeypatch, cache):
    folder = tmp_path / "fetched"
    folder.mkdir()
    lines(folder / "data.jsonl", [{"question": "胃胀两天了怎么办", "think": "像消化不良", "answer": "少量多餐。"}])
    fetched = []
    monkeypatch.setattr(hub, "fetch", lambda name: fetched.append(name) or folder)
    for _ in range(2):
        found = medical.read("krisfu/delicate_medical_r1_data")
        assert [(item.reasoning, item.source) for item in found.items] == [("像消化不良", "krisfu/delicate_medical_r1_data")]
    assert fetched == ["krisfu/delicate_medical_r1_data"]
    assert len(list((cache / "datasets").iterdir())) == 1


def test_an_unreachable_hub_is_one_error_with_the_way_without_it(monkeypatch):
    import modelscope

    def down(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.delenv("USE_HF", raising=False)
    monkeypatch.setattr(modelscope, "dataset_snapshot_download", down)
    with pytest.raises(
        BadInput, match=r"krisfu/delicate_medical_r1_data could not be fetched from ModelScope .*give the folder or file instead"
    ):
        medical.read("krisfu/delicate_medical_r1_data")


def test_the_licence_stands_in_source_yaml_beside_the_file(tmp_path):
    path = lines(tmp_path / "rows.jsonl", [GOOD])
    assert medical.read(str(path)).licence == "not stated"
    (tmp_path / "source.yaml").write_text("licence: CC BY 4.0\n", encoding="utf-8")
    assert medical.read(str(path)).licence == "CC BY 4.0"


def item(**more):
    known = {"question": "胃胀两天了怎么办", "answer": "少量多餐。", "reasoning": "像消化不良", "keywords": (), "source": "s", "risk": ""}
    return medical.Item(**(known | more))


def test_a_sample_holds_the_reasoning_as_qwen3_writes_it_and_the_reward_columns():
    made = medical.sample(item(), ["少量多餐"], answered=True)
    assert [turn["role"] for turn in made["messages"]] == ["system", "user", "assistant"]
    assert made["messages"][2]["content"] == "<think>\n像消化不良\n</think>\n\n少量多餐。"
    assert (made["med_question"], made["med_reference"], made["med_keywords"]) == ("胃胀两天了怎么办", "少量多餐。", '["少量多餐"]')
    assert medical.sample(item(reasoning=""), [], answered=True)["messages"][2]["content"] == "少量多餐。"
    asked = medical.sample(item(), [], answered=False)
    assert [turn["role"] for turn in asked["messages"]] == ["system", "user"] and asked["med_keywords"] == ""
    assert item().med_id == item(question="胃胀，两天了，怎么办？").med_id != item(question="头疼").med_id


def test_an_answers_own_words_stand_in_for_missing_keywords():
    texts = [
        "低盐饮食，少喝酒",
        "低盐饮食，多运动",
        "注意休息，多喝水",
        "注意休息，不要熬夜",
        "规律作息",
        "多喝水",
        "按时吃饭",
        "复查血压",
        "少吃糖",
        "戒烟",
    ]
    items = [item(answer=text) for text in texts] + [item(answer="复查", keywords=("自己的",))]
    found = medical.with_keywords(items)
    assert "低盐" in "".join(found[0]) and found[-1] == ("自己的",)
    assert found[4] == (), "words of one answer only are names, not points"


def test_an_unsafe_answer_is_named_by_its_rule_and_its_own_doses_count_as_given():
    question = item().question
    assert medical_rules.unsafe(question, "吃这个药保证根治，永不复发。") == "promises_cure"
    assert medical_rules.unsafe(question, "每次吃铝碳酸镁一片，请遵医嘱。") == ""
    assert medical_rules.unsafe(question, "") == ""
