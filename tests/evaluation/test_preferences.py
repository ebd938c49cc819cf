"""A blind comparison without its page: what is asked in which order, the log that survives a kill, and the win rates out of it."""

import json

import numpy as np
import pytest
from overtake import tasks
from overtake.data.tables import BadInput
from overtake.evaluation import preferences
from overtake.evaluation.preferences import CHOICES, VOID
from overtake.evaluation.statistics import wilson

FIELDS = {"finance": "output", "medical": "answer", "judge": "verdict", "query_rewrite": "rewrite"}


def evaluation(folder, name="query_rewrite", theirs="他", ours=None, count=20):
    """A folder as tools/evaluate.py leaves it: `count` rows, every fourth answered by both with the same text, the last by nobody."""
    task = tasks.known()[name]
    how, field, folder = task.evaluation, FIELDS[name], folder / name
    folder.mkdir(parents=True, exist_ok=True)
    key = next(shown for shown, column in how.shown.items() if column == how.id)
    for system in ("SFT", "GRPO"):
        lines = []
        for at in range(count):
            cells = {shown: f"{shown} {at}" for shown in how.shown} | {key: f"q{at}"}
            text = "同样" if at % 4 == 0 else theirs if system == "SFT" else (ours or "我")
            measured = {task.measures()[0]: 0.5}
            if at == count - 1 and system == "SFT":  # its service did not answer
                text, measured = "", {}
            lines.append(cells | {field: text} | measured)
        (folder / f"eval_details_{system}.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    means = {system: {task.measures()[0]: 0.5} for system in ("SFT", "GRPO")}
    summary = {"task": name, "against": "GRPO", "systems": {"SFT": "a", "GRPO": "b"}, "means": means}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder, task


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_what_two_candidates_answered_differently_is_asked_in_every_task(tmp_path, name):
    of = preferences.comparison(*evaluation(tmp_path, name))
    assert (of.candidates, of.questions, of.same, len(of.items)) == (("GRPO", "SFT"), 19, 5, 14)
    assert {item.answers for item in of.items} == {("我", "他")}, "an outage is nobody's answer, the same answer a tie"
    assert "q19" not in {item.question for item in of.items}
    text = next(shown for shown, column in of.task.evaluation.shown.items() if column in of.task.evaluation.texts)
    assert all(item.cells[text] == f"{text} {item.question[1:]}" for item in of.items)


def test_left_and_right_are_drawn_for_each_question_and_rater_and_all_raters_get_the_same_questions_first(tmp_path):
    folder, task = evaluation(tmp_path, count=401)
    of, again, other = (preferences.comparison(folder, task, ("SFT", "GRPO"), seed) for seed in (0, 0, 1))
    sides = {rater: [of.left(item, rater) for item in of.items] for rater in ("anna", "博")}
    assert [again.left(item, "anna") for item in again.items] == sides["anna"]
    assert all(0.4 < np.mean(side) < 0.6 for side in sides.values())
    assert 0.4 < np.mean([one == two for one, two in zip(*sides.values(), strict=True)]) < 0.6, "drawn for each rater"
    assert [item.question for item in of.items] == [item.question for item in again.items] != [item.question for item in other.items]
    assert [item.question for item in of.items] != sorted((item.question for item in of.items), key=lambda name: int(name[1:]))
    assert of.line(of.items[0], "anna", "tie")["left"] == of.candidates[sides["anna"][0]]


def test_a_choice_survives_a_kill_is_made_once_and_can_be_taken_back(tmp_path):
    folder, task = evaluation(tmp_path)
    of, log = preferences.comparison(folder, task), tmp_path / "preferences.jsonl"
    first, second = of.items[:2]
    assert preferences.last(log, of, "anna") is None
    assert preferences.add(log, of.line(first, "anna", "left"))
    assert not preferences.add(log, of.line(first, "anna", "right")), "another window"
    log.write_bytes(log.read_bytes() + b'{"task": "query_rewrite", "candidates": ["GRPO", "S' + "他".encode()[:2])
    assert [item.question for item in preferences.waiting(log, of, "anna")] == [item.question for item in of.items[1:]]
    assert preferences.waiting(log, of, "博") == list(of.items)
    assert preferences.add(log, of.line(second, "anna", "tie")) and preferences.add(log, of.line(first, "博", "both bad"))
    assert [(line["question"], line["choice"]) for line in preferences.standing(preferences.read(log)).values()] == [
        (first.question, "left"),
        (second.question, "tie"),
        (first.question, "both bad"),
    ]
    assert preferences.last(log, of, "anna")["question"] == second.question
    assert preferences.add(log, {**preferences.last(log, of, "anna"), "choice": VOID})
    assert preferences.last(log, of, "anna")["question"] == first.question and preferences.waiting(log, of, "anna")[0] == second
    assert len(log.read_bytes().split(b"\n")) == 6, "only ever added to: three choices, the broken one, one taken back"


def test_answers_that_have_changed_are_asked_again_and_the_others_are_not(tmp_path):
    log = tmp_path / "preferences.jsonl"
    of = preferences.comparison(*evaluation(tmp_path))
    for item in of.items:
        preferences.add(log, of.line(item, "anna", "left"))
    assert preferences.renew(log, of) == 0 and not preferences.waiting(log, of, "anna")
    newer = preferences.comparison(*evaluation(tmp_path, ours="新"))
    assert preferences.renew(log, newer) == 14 and len(preferences.waiting(log, newer, "anna")) == 14
    with pytest.raises(BadInput, match="no choice is recorded"):
        preferences.win_rates(preferences.read(log))


def choices(verdicts, questions=100, same=0):
    """Log lines of {rater: one letter a question, g: GRPO won, s: SFT won, t: tie, b: both bad, -: not asked}, sides changing."""
    lines = []
    for rater, letters in verdicts.items():
        for at, letter in enumerate(letters):
            left = ("GRPO", "SFT")[at % 2]
            winner = {"g": "GRPO", "s": "SFT"}.get(letter)
            choice = {"t": "tie", "b": "both bad"}.get(letter) or ("left" if winner == left else "right")
            values = ("judge", ["GRPO", "SFT"], f"q{at}", rater, left, choice, "x", questions, same)
            if letter != "-":
                lines.append(dict(zip(preferences._FIELDS, values, strict=True)))
    return lines


def test_a_win_rate_counts_ties_as_half_and_questions_once():
    (alone,) = preferences.win_rates(choices({"anna": "gggggsttbb"}))
    assert (alone.candidate, alone.other, alone.questions, alone.raters) == ("GRPO", "SFT", 10, 1)
    assert alone.rate == wilson(0.7, 10) and alone.shares == pytest.approx({"win": 0.5, "tie": 0.2, "loss": 0.1, "both bad": 0.2})
    (both,) = preferences.win_rates(choices({"anna": "gggggsttbb", "博": "gggggsttbb"}))
    assert (both.rate, both.p) == (alone.rate, alone.p), "a second rater makes no second question"
    assert alone.verdict == "no preference shown"
    (clear,) = preferences.win_rates(choices({"anna": "g" * 30 + "s" * 5}))
    assert clear.verdict == "GRPO is preferred" and clear.rate.low > 0.7 and clear.p < 0.001
    assert clear.left.mean == pytest.approx(0.5, abs=0.05)
    (every,) = preferences.win_rates(choices({"anna": "gggg"}, questions=16, same=12))
    assert every.rate.mean == 1 and every.rate.low == pytest.approx(0.51, abs=0.005), "four wins of four prove little"
    assert every.overall.mean == 0.5 + 0.5 * 4 / 16


def test_wilsons_interval_is_scipys_and_covers_values_between_too():
    from scipy.stats import binomtest

    for wins, count in ((0, 7), (3, 10), (50, 50)):
        expected = binomtest(wins, count).proportion_ci(method="wilson")
        assert (wilson(wins / count, count).low, wilson(wins / count, count).high) == pytest.approx(tuple(expected))
    rng = np.random.default_rng(0)
    found = [wilson(float(sample.mean()), 40) for sample in rng.choice([0, 0.5, 1], (400, 40), p=[0.2, 0.3, 0.5])]
    assert np.mean([one.low <= 0.65 <= one.high for one in found]) >= 0.95


def test_two_raters_agree_as_far_as_they_do():
    (result,) = preferences.win_rates(choices({"anna": "ggssttgg--", "博": "ggssbbss-g", "cy": "---------g"}))
    pairs = {pair.raters: pair for pair in result.agreements}
    anna, other = pairs["anna", "博"], pairs["cy", "博"]
    assert (anna.questions, anna.same.mean) == (8, 0.75), "a tie and both bad are one verdict: neither is preferred"
    # Shares of GRPO, neither, SFT: (4, 2, 2) and (2, 2, 4) of 8, so by chance (8 + 4 + 8) / 64.
    assert anna.kappa.mean == pytest.approx((0.75 - 20 / 64) / (1 - 20 / 64)) and anna.kappa.low < anna.kappa.mean < anna.kappa.high
    assert (other.questions, other.same.mean, other.kappa) == (1, 1.0, None), "no kappa where both only ever said one thing"
    assert len(result.agreements) == 2, "anna and cy were asked nothing in common"


def test_evaluate_makes_win_rates_of_a_log_and_nothing_else(run, tmp_path):
    log = tmp_path / "preferences.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in choices({"anna": "g" * 30 + "s" * 5, "博": "g" * 20 + "t" * 15}, 60, 20)))
    with pytest.raises(SystemExit) as end:
        run("evaluate", "--preferences", log)
    assert end.value.code == 0
    (result,) = json.loads((tmp_path / "preferences.win_rates.json").read_text())
    assert result["verdict"] == "GRPO is preferred" and result["rate"]["mean"] == pytest.approx((20 + 10 * 0.75 + 5 * 0.25) / 35)
    assert result["agreements"][0]["raters"] == ["anna", "博"]


def test_the_table_says_all_of_it(run, tmp_path, capsys):
    log = tmp_path / "preferences.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in choices({"anna": "ggst", "博": "ggss"}, 10, 4)))
    assert preferences.report(log) == 0
    out = capsys.readouterr().out
    for part in (
        "judge: GRPO over SFT",
        "no preference shown",
        "4 of 10 questions have the same answer",
        "2 questions have not been asked yet",
    ):
        assert part in out
    assert "anna and 博 on 4 questions: the same verdict 0.750" in out


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "no choice is recorded there yet"),
        ('{"task": "judge"}\n', "line 1 is no line of a blind comparison (no candidates)"),
        ("nonsense\n", "line 1 is no line of a blind comparison"),
        (json.dumps(choices({"a": "g"})[0] | {"choice": "up"}), "choice 'up' of"),
        (None, "no such file"),
    ],
)
def test_what_is_no_log_is_said_in_one_line(run, capsys, tmp_path, text, remedy):
    log = tmp_path / "log.jsonl"
    if text is not None:
        log.write_text(text)
    with pytest.raises(SystemExit) as end:
        run("evaluate", "--preferences", log)
    err = capsys.readouterr().err
    assert end.value.code == 2 and remedy in err and len(err.splitlines()) == 1


def test_a_blind_page_needs_two_candidates_that_differ(run, tmp_path):
    folder, _ = evaluation(tmp_path)
    for words, remedy in (
        (["--pair", "SFT", "PPO"], "--pair PPO: "),
        (["--system", "SFT=x@http://127.0.0.1:9/v1"], "leave --system out"),
        (["--pair", "SFT", "SFT"], "two candidates are compared"),
    ):
        ended = run("page", "--blind", "--eval", folder, *words)
        assert ended.code == 2 and remedy in ended.err and len(ended.err.splitlines()) == 1, ended.err
    same, _ = evaluation(tmp_path / "same", ours="他")
    ended = run("page", "--blind", "--eval", same)
    assert ended.code == 2 and "answered none of 19 questions differently" in ended.err
    assert CHOICES == ("left", "tie", "right", "both bad")
