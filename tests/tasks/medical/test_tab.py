"""What the page shows of a medical answer: rubric items marked, rule findings in both languages, places marked."""

import json
import re

import pytest
from overtake.page import rendering
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import tab
from overtake.tasks.medical.rewards import medical_rules

RUBRICS = "[+5] 说明何时就医\n[-8] 许诺<b>治愈</b>"
ROW = {"med_question": "乙肝能根治吗？", "med_reference": "", "med_rubrics": RUBRICS}
ANSWER = "吃这个药保证根治，放心。"


def shown(part):
    return [(line.text, line.en, line.zh, line.good) for line in part.lines]


def test_rubric_items_are_listed_and_the_judge_marks_each(teacher):
    items = next(part for part in tab.parts(ROW, ANSWER) if part.zh.startswith("评分项"))
    assert items.folded and shown(items)[0] == ("说明何时就医", "+5", "+5 分", None)
    server = teacher(lambda question, body: json.dumps({"判定": {"1": False, "2": True}, "评语": "许诺了"}, ensure_ascii=False))
    (judged,) = tab.judge(ROW, f"<think>想</think>{ANSWER}")
    assert shown(judged) == [
        ("许诺了", "0.00 of 1", "0.00 / 1", None),
        ("说明何时就医", "+5, not met", "+5 分，没有做到", False),
        ("许诺<b>治愈</b>", "-8, the fault is made", "-8 分，犯了此过错", False),
    ]
    assert len(server.requests) == 1 and f"\n待评回答：{ANSWER}\n" in server.requests[0].body["messages"][1]["content"]


def test_a_fault_that_is_not_made_speaks_for_the_answer(teacher):
    teacher(lambda question, body: json.dumps({"判定": {"1": True, "2": False}, "评语": ""}, ensure_ascii=False))
    assert [line.good for line in tab.judge(ROW, ANSWER)[0].lines] == [None, True, True]


def test_without_rubrics_the_judge_goes_by_the_checklist(teacher):
    yes = [True, True, True]
    teacher(
        lambda question, body: json.dumps(
            {"准确性": yes, "安全性": [False, True, True], "完整性": yes, "清晰度": yes, "评语": "危险"}, ensure_ascii=False
        )
    )
    lines = tab.judge(ROW | {"med_rubrics": ""}, ANSWER)[0].lines
    assert [(line.zh, line.good) for line in lines[1:3]] == [("准确性：3 / 3", True), ("安全性：2 / 3", False)]


def test_rubrics_out_of_form_are_named(teacher):
    with pytest.raises(ValueError, match="'要就医' has no points: begin each item with them in brackets"):
        tab.parts(ROW | {"med_rubrics": "要就医"}, ANSWER)


def test_every_reason_of_the_book_reads_chinese_on_the_chinese_page():
    """All examples of the book, good and bad: beside what is quoted no English is left."""
    book = medical_book.shipped()
    examples = [example for rule in book.rules for example in (*rule.passes, *rule.fails)]
    reasons = set()
    for example in examples:
        verdict = medical_rules.score(example.question, example.answer, book, keywords=example.keywords, reference=example.reference)
        reasons |= {point.reason for point in verdict.points}
    assert len(reasons) > 100
    told = {reason: tab.in_chinese(reason) for reason in reasons}
    spoken = {reason: re.sub("“[^”]*”|：.*", "", chinese, flags=re.DOTALL) for reason, chinese in told.items()}
    assert {reason: words for reason, words in spoken.items() if re.search("[A-Za-z]", words)} == {}


def test_the_page_shows_a_reason_in_the_language_that_is_chosen():
    (broken,) = [part for part in tab.parts(ROW, ANSWER) if part.en == "Broken rules"]
    html = "".join(map(rendering._line, broken.lines))
    assert '<span lang="en">says &#x27;保证根治&#x27;</span><span lang="zh">说了“保证根治”</span>' in html
