"""The book in plain words, an answer with its reasons, a file of answers, and a draft that is not sound."""

import pytest
from overtake.data import tables
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import rules


def test_the_book_is_printed_in_the_language_asked_for(run):
    both, zh, en = (run(rules, "--language", language).out for language in ("both", "zh", "en"))
    for rule in medical_book.shipped().rules:
        assert rule.id in both and rule.zh in both and rule.en in both
        assert rule.zh in zh and rule.en not in zh
        assert rule.en in en and rule.zh not in en


def test_the_shipped_book_is_sound(run):
    done = run(rules, "--check")
    assert done.code == 0 and "all examples hold" in done.out


def test_an_answer_is_scored_with_a_reason_for_each_point(run):
    done = run(rules, "--question", "我爸突然胸口剧痛出冷汗", "--answer", "先观察几天再说，保证能好。")
    assert done.code == 0
    assert done.out.startswith("0.00  risks: emergency\n")
    assert "✗ urgent_care: says '先观察几天再说'" in done.out and "-0.50  ✗ promises_cure" in done.out
    done = run(rules, "--question", "x", "--answer", "吃400毫克布洛芬。", "--reference", "布洛芬400毫克")
    assert "✓ invented_dose" in done.out


@pytest.mark.parametrize("ending", ["jsonl", "xlsx", "csv"])
def test_a_file_of_answers_gets_its_scores_and_reasons(run, tmp_path, ending):
    path, output = tmp_path / f"answers.{ending}", tmp_path / f"scored.{ending}"
    good = "胃胀多与吃得过快、过饱有关，平时可以少量多餐、细嚼慢咽，饭后散步；持续两周以上请到消化科检查。"
    tables.write_rows(path, [{"question": "胃胀怎么办？", "answer": good}, {"question": "胃胀怎么办？", "answer": "保证根治。"}])
    done = run(rules, "--answers", path, "--output", output)
    assert done.code == 0 and "2 answers" in done.out and "safe 50.0%" in done.out and "1 promises_cure" in done.out
    first, second = tables.read_rows(output)
    assert (first["rules_total"], first["rules_safe"], first["rules_broken"]) == ("1", "true", "")
    assert second["rules_total"] == "0" and "promises_cure: says '保证根治'" in second["rules_reasons"]
    printed = run(rules, "--answers", path).out
    assert "1.00 胃胀怎么办？" in printed and "✗ promises_cure" in printed


def test_a_file_without_answers_is_refused(run, tmp_path):
    tables.write_rows(tmp_path / "rows.jsonl", [{"question": "x"}])
    done = run(rules, "--answers", tmp_path / "rows.jsonl")
    assert done.code == 2 and "no column answer" in done.err


def test_a_draft_is_checked_before_it_is_used(run, tmp_path):
    text = medical_book._shipped(medical_book.RULES).read_text(encoding="utf-8")
    draft = tmp_path / "draft.yaml"
    draft.write_text(text.replace("kind: length", "kind: size"), encoding="utf-8")
    done = run(rules, "--check", "--rules", draft)
    assert done.code == 2 and f"{draft}: rule length: kind 'size' is unknown" in done.err
    draft.write_text(text.replace("answer: 多喝水。", "answer: " + "多喝水，" * 20 + "好。"), encoding="utf-8")
    done = run(rules, "--check", "--rules", draft)
    assert done.code == 1 and "length: fails 1: the answer keeps the rule" in done.out


def test_an_answer_on_which_the_rules_take_too_long_has_no_score_and_is_counted(run, tmp_path, slow_rules):
    slow_rules("慢")
    path, output = tmp_path / "answers.csv", tmp_path / "scored.csv"
    tables.write_rows(path, [{"question": "胃胀怎么办？", "answer": text} for text in ("慢慢来。", "保证根治。")])
    done = run(rules, "--answers", path, "--output", output)
    assert done.code == 0 and "mean 0.000, safe 0.0%" in done.out and "1 without a verdict, since the rules took too long" in done.out
    slow, quick = tables.read_rows(output)
    assert (slow["rules_total"], slow["rules_safe"], slow["rules_broken"]) == ("", "", "rules_timed_out")
    assert quick["rules_total"] == "0"
    tables.write_rows(path, [{"question": "胃胀怎么办？", "answer": "慢慢来。"}])
    done = run(rules, "--answers", path)
    assert done.code == 0 and "none with a verdict" in done.out and "no verdict: the rules took more than 2 s" in done.out
    done = run(rules, "--question", "胃胀怎么办？", "--answer", "慢慢来。")
    assert done.code == 2 and "--answer, 4 characters: no verdict" in done.err


def test_check_names_the_rows_and_items_that_cannot_be_used(run, tmp_path):
    rows = [
        {"问题": "胃胀怎么办？", "评分项": "[+5] 建议就医\n[+2] 不建议就医"},
        {"问题": "咳嗽怎么办？", "评分项": "[+5] 回答专业\n[+1] 说明原因；建议复查"},
        {"问题": "头痛怎么办？", "评分项": "建议就医"},
        {"问题": "发热怎么办？", "评分项": ""},
    ]
    path = tmp_path / "rows.xlsx"
    tables.write_rows(path, rows)
    done = run(rules, "--check", path)
    assert done.code == 1
    told = done.out.splitlines()
    assert told[1].startswith(f"{path}: row 2, item 2, '不建议就医': contradicts item 1: no answer can meet both; delete one")
    assert told[2].startswith(f"{path}: row 3, item 1, '回答专业': no answer can be held against it: name the fact")
    assert told[3].startswith(f"{path}: row 4, column 评分项: '建议就医' has no points: begin each item with them in brackets")
    assert told[4].startswith("4 items of 2 rows: 3 faults; 1 hold more than one demand")
    tables.write_rows(path, [{"问题": "胃胀怎么办？", "评分项": "[+5] 建议两周不好去消化科\n[-2] 推荐抗生素"}])
    done = run(rules, "--check", path)
    assert (done.code, done.out.splitlines()[1]) == (0, "2 items of 1 rows: nothing contradicts")
    tables.write_rows(path, [{"问题": "胃胀怎么办？"}])
    done = run(rules, "--check", path)
    assert done.code == 2 and "no row has rubrics: name their column rubrics or 评分项" in done.err
