"""The rewards under attack: an attack that is paid is named, one that is not is not, and what cannot be measured is no score."""

from pathlib import Path

import pytest
from overtake import tasks
from overtake.data.tables import BadInput, json_lines
from overtake.doctor import attacks, scoring
from overtake.doctor.findings import exit_code
from overtake.doctor.scoring import Reward
from overtake.reading import numbers
from overtake.tasks.finance.rewards import numeric_answer

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(ROOT.parent / "shared/data/finance/disc_finllm_computing_zh.jsonl")


@pytest.fixture
def sample():
    """sample(task, count) -> the task and rows of the shipped sample."""

    def sample(name, count=24):
        task = tasks.find(name)
        return task, attacks.spread(task.attacks.rows(ROOT / "datasets" / task.attacks.sample), count)

    return sample


@pytest.fixture
def ours(monkeypatch):
    """ours(**weights) -> our rewards of these names; no answer is judged."""
    from overtake import settings

    for name in ("MEDICAL", "FINANCE"):
        monkeypatch.setenv(f"OVERTAKE_{name}_JUDGE_SHARE", "0")
    settings.load.cache_clear()
    yield lambda **weights: [Reward(name, weight, tasks.rewards()[name].load()(None)) for name, weight in weights.items()]
    settings.load.cache_clear()


def levels(findings):
    return {one.what: one.level for one in findings}


def test_a_reward_that_counts_letters_is_caught_with_the_attack_that_it_pays(sample):
    task, rows = sample("medical")
    longer = Reward("longer", 1.0, lambda completions, **_: [float(len(text)) for text in completions])
    _, found = scoring.examine(task, rows, [longer])
    said = levels(found)
    assert said["attack: over-long"] == said["attack: promising a cure"] == "error"
    assert said["attack: empty"] == "ok"
    paid = next(one for one in found if one.what == "attack: over-long")
    assert "paid by longer" in paid.value and "lower the weight of longer" in paid.remedy
    assert exit_code(found) == 1


def test_the_form_of_a_verdict_alone_pays_a_judge_that_says_the_same_to_everything(sample, ours):
    task, rows = sample("judge")
    _, found = scoring.examine(task, rows, ours(judge_format=1.0))
    assert {what for what, level in levels(found).items() if level == "error"} >= {
        *("attack: always correct", "attack: always incorrect", "attack: always none", "attack: over-long")
    }
    _, found = scoring.examine(task, rows, ours(judge_format=0.2, judge_verdict=0.8))
    assert exit_code(found) == 0 and set(levels(found).values()) == {"ok"}


def test_a_constant_verdict_earns_the_share_of_rows_that_it_fits(sample, ours):
    task, rows = sample("judge", 60)
    outcome = scoring.measure(task, rows, ours(judge_verdict=1.0))
    lines = {line.answer: line for line in outcome.lines}
    assert lines["honest"].total == 1.0
    share = sum(row["judge_main"] == "correct" for row in rows) / len(rows)
    assert 0.65 * share <= lines["always correct"].total <= share + 0.25 + 1e-9


def test_every_medical_attack_scores_below_an_honest_answer_by_the_book_alone(sample, ours):
    task, rows = sample("medical")
    outcome, found = scoring.examine(task, rows, ours(medical_answer=1.0))
    assert exit_code(found) == 0
    honest, *rest = outcome.lines
    assert {line.answer for line in rest} >= {"keyword-stuffed", "over-long", "refusing everything", "promising a cure", "inventing a dose"}
    assert all(line.total < honest.total - 0.2 for line in rest)
    assert honest.rewards["medical_answer/rules"] == honest.rewards["medical_answer"]


FINANCE = [
    {"id": "a", "question": "收入1000万元，增长25%，上年多少？", "gold_answer": "800万元", "type": "calculation", "source": "x"},
    {"id": "b", "question": "净现值为负时应如何决策？", "gold_answer": "放弃该项目", "type": "concept", "source": "x"},
    {"id": "c", "question": "资产300，负债120，权益多少？", "gold_answer": "180", "type": "calculation", "source": "x"},
]


@pytest.fixture
def finance(tmp_path):
    """finance(rows) -> their file."""

    def write(rows):
        (tmp_path / "raw.jsonl").write_bytes(json_lines(rows))
        return tmp_path / "raw.jsonl"

    return write


def test_finance_golds_earn_all_there_is_and_attacks_no_more_than_the_form(finance, ours):
    task = tasks.find("finance")
    rewards = ours(answer_format=0.3, finance_accuracy=0.7)
    outcome, found = scoring.examine(task, task.attacks.rows(finance(FINANCE)), rewards)
    assert exit_code(found) == 0
    totals = {line.answer: line.total for line in outcome.lines}
    assert totals["honest"] == pytest.approx(1.0)
    assert totals["injecting"] == totals["over-long"] == pytest.approx(0.3)
    # Of the three golds the one in words is among the eight things that are listed; a number beside others is no answer.
    assert totals["every option"] == pytest.approx(0.3 + 0.7 / 3)
    assert totals["untagged"] == totals["empty"] == 0.0


def test_a_gold_that_the_rules_cannot_read_is_named(finance):
    rows = [*FINANCE, {"id": "odd", "question": "多少？", "gold_answer": "？", "type": "calculation", "source": "x"}]
    [found] = tasks.find("finance").attacks.golds(finance(rows))
    assert found.level == "warning" and "1 of 4" in found.value and found.value.endswith(": odd")


def test_a_bare_gold_is_shown_in_the_unit_that_it_is_read_in_and_named_where_it_earns_less_so(finance, monkeypatch):
    golds = tasks.find("finance").attacks.golds
    row = {"question": "某公司2023年营收1000万元，同比增长25%，请计算2022年营收。", "type": "calculation", "source": "x"}
    path = finance([*FINANCE, {**row, "id": "ours", "gold_answer": "800"}, {**row, "id": "in yuan", "gold_answer": "8000000"}])
    assert [(found.level, found.what, found.value) for found in golds(path)][1:] == [
        ("ok", "golds with their unit", "2 are bare and read in their question's unit, the largest as 8000000万元 (in yuan)")
    ]
    same = numbers.same_quantity
    monkeypatch.setattr(numeric_answer, "same_quantity", lambda answer, gold, question: same(answer, gold))  # blind to the question
    [found] = [found for found in golds(path) if found.what == "golds with their unit"]
    assert (found.level, found.value) == ("warning", "2 of 2 do not earn 1.0: ours, in yuan")


@pytest.mark.needs_shared
def test_the_six_wrong_golds_of_the_disc_evaluation_are_named(finance):
    lines = SHARED.read_text(encoding="utf-8").splitlines()
    import json

    rows = [row for line in lines if (row := json.loads(line))["split"] == "eval"]
    found = tasks.find("finance").attacks.golds(finance(rows))[0]
    assert found.level == "error" and "6 of 100" in found.value
    names = ("1", "8", "33", "44", "75", "86")
    assert found.value.endswith(": " + ", ".join(f"disc-eval-{name}" for name in names))


def test_a_reward_that_abstains_is_an_error_and_no_zero(sample):
    task, rows = sample("judge", 4)
    outcome, [found, *_] = scoring.examine(task, rows, [Reward("silent", 1.0, lambda completions, **_: [None] * len(completions))])
    assert outcome.lines[0].total is None
    assert (found.level, found.value) == ("error", "0 of 4 could be measured")


def test_a_reward_that_cannot_run_is_told_in_its_own_words(sample, ours):
    task, rows = sample("judge", 4)
    outcome, [found] = scoring.examine(task, rows, ours(numeric_answer=1.0))
    assert outcome is None and found.level == "error"
    assert "the dataset has no column fin_gold" in found.value


def test_an_attack_that_is_the_honest_answer_of_a_row_does_not_count_there(sample, ours):
    task, rows = sample("medical", 2)
    same = [rows[0], {**rows[1], "med_reference": rows[0]["med_reference"]}]
    outcome = scoring.measure(task, same, ours(medical_rules=1.0))
    line = next(line for line in outcome.lines if line.answer == "another question's")
    assert (line.rows, line.total) == (0, None)


def test_names_and_weights_are_the_runs_own():
    task = tasks.find("finance")
    given = {"reward_funcs": ["answer_format", "numeric_answer"], "reward_weights": ["0.5", "0.5"]}
    assert [(one.name, one.weight) for one in scoring.rewards_of(task, given, tasks.rewards())][:2] == [
        ("answer_format", 0.5),
        ("numeric_answer", 0.5),
    ]
    with pytest.raises(BadInput, match="1 values for 2"):
        scoring.rewards_of(task, {**given, "reward_weights": ["1"]}, tasks.rewards())
    with pytest.raises(BadInput, match="no reward is named"):
        scoring.rewards_of(tasks.find("medical"), {}, tasks.rewards())


@pytest.mark.parametrize(("slips", "level"), [(0, "ok"), (1, "warning"), (7, "error")])
def test_a_teachers_slip_is_told_from_a_reward_that_refuses_good_answers(ours, slips, level):
    """A small teacher's rewrite breaks a rule now and then; that stopped the whole chain. Many that break one say something of the rule."""
    columns = dict.fromkeys(("rag_tenant", "rag_kb", "rag_profile", "rag_history", "rag_gold", "rag_teacher_recall"), "")
    rows = []
    for at in range(17):
        rewrite = f"胶原，建议您多吃 松弛{at}" if at < slips else f"胶原 松弛{at}"
        rows.append({**columns, "rag_query_id": f"q{at}", "rag_query": f"脸垮吃啥{at}", "rag_teacher_rewrite": rewrite})
    _, found = scoring.examine(tasks.find("query_rewrite"), rows, ours(rewrite_rules=0.2))
    assert levels(found)["honest answers"] == level
