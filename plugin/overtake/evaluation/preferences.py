"""A blind comparison: which of two candidates' answers people prefer, the log of it, and the win rates that the log gives.

The log is a JSON line for each choice, only ever added to. The last line of a question and a rater counts; one that is taken back, or was
about answers that are there no more, is followed by a line whose choice is "void".
"""

import argparse
import fcntl
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overtake import cli, text_table
from overtake.data.outputs import reading, write_aside
from overtake.data.tables import BadInput
from overtake.evaluation import examples
from overtake.evaluation.agreement import kappa
from overtake.evaluation.statistics import Interval, bootstrap_counts, holm, paired_p, wilson
from overtake.task import Task

CHOICES = ("left", "tie", "right", "both bad")
VOID = "void"
_FIELDS = ("task", "candidates", "question", "rater", "left", "choice", "answers", "questions", "same")
Line = dict[str, Any]
"""task, candidates [2], question (its row's id), rater, left (the candidate that stood there), choice, answers (a digest of both), at (the
time), and of the comparison questions (that both answered) and same (of these, those with one answer from both)."""

Key = tuple[str, str, str, str, str]


class Item(NamedTuple):
    """A question that both candidates answered, differently."""

    question: str
    cells: dict[str, str]
    """The row as the details show it."""
    answers: tuple[str, str]

    @property
    def digest(self) -> str:
        """Twelve hex digits, others where an answer is another."""
        return hashlib.sha256(json.dumps(self.answers).encode()).hexdigest()[:12]


class Comparison(NamedTuple):
    """Two candidates on the held-out rows that both answered."""

    task: Task
    candidates: tuple[str, str]
    items: tuple[Item, ...]
    """In the order in which they are asked: the same for every rater, so that those who stop early have questions in common."""
    questions: int
    same: int
    """Questions that both answered with the same text: a tie that nobody need be asked about."""
    seed: int

    def left(self, item: Item, rater: str) -> int:
        """The candidate, 0 or 1, whose answer stands on the left: drawn for each question and rater."""
        return _draw(self.seed, item.question, rater) & 1

    def line(self, item: Item, rater: str, choice: str) -> Line:
        """A choice as the log has it."""
        values = (self.task.called, [*self.candidates], item.question, rater, self.candidates[self.left(item, rater)], choice)
        return dict(zip(_FIELDS, (*values, item.digest, self.questions, self.same), strict=True))


def _draw(*of: object) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(of).encode()).digest()[:8])


def comparison(folder: Path, task: Task, pair: Sequence[str] = (), seed: int = 0) -> Comparison:
    """Two candidates of a folder of tools/evaluate.py: `pair`, else the one that it holds against others and what it is measured by.

    A row that a candidate's service did not answer is left out. Raises BadInput where there are no two, or nothing in which they differ.
    """
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    details = examples.read_details(folder, list(summary["means"]), task)
    if strange := [name for name in pair if name not in details]:
        raise BadInput(f"--pair {strange[0]}: {folder} holds answers of {', '.join(details) or 'nobody'}: name two of these")
    ours, theirs = pair or examples.compared(summary, details, task)
    if not ours or not theirs or ours == theirs:
        raise BadInput(f"{folder} holds answers of {', '.join(details) or 'nobody'}: two candidates are compared, name them by --pair")
    how = task.evaluation
    both = [row for row in details[ours] if row in details[theirs] and all(_answered(details[name][row], task) for name in (ours, theirs))]
    answers = {row: (str(details[ours][row][how.answer]), str(details[theirs][row][how.answer])) for row in both}
    cells = {row: {name: examples.words(details[ours][row].get(name, "")) for name in how.shown} for row in both}
    differing = [row for row in both if len({" ".join(text.split()) for text in answers[row]}) > 1]
    if not differing:
        raise BadInput(f"{folder}: {ours} and {theirs} answered none of {len(both)} questions differently: there is nothing to choose")
    items = [Item(row, cells[row], answers[row]) for row in sorted(differing, key=lambda row: _draw(seed, row))]
    return Comparison(task, (ours, theirs), tuple(items), len(both), len(both) - len(differing), seed)


def _answered(line: Mapping[str, Any], task: Task) -> bool:
    """An empty answer that was measured is one; where nothing was measured its service was down."""
    return bool(line.get(task.evaluation.answer)) or any(name in line for name in task.measures())


def read(path: Path) -> list[Line]:
    """The lines of a log, none where there is no file; one that a kill broke off at the end is left out.

    Raises BadInput naming a line that is none of a log.
    """
    whole = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines: list[Line] = []
    for at, text in enumerate(whole.split("\n"), 1):
        try:
            line = json.loads(text) if text.strip() else None
        except ValueError:
            if '{"task"'.startswith(text[:7]) and not text.endswith("}"):  # broken off; what came after it began a line of its own
                continue
            line = text
        if line is not None:
            lines.append(_checked(line, f"{path} line {at}"))
    return lines


def _checked(line: Any, where: str) -> Line:
    if not isinstance(line, dict) or (missing := [name for name in _FIELDS if name not in line]):
        raise BadInput(f"{where} is no line of a blind comparison{f' (no {missing[0]})' if isinstance(line, dict) else ''}: name its log")
    two = line["candidates"]
    if not isinstance(two, list) or len(two) != 2 or line["left"] not in two or line["choice"] not in (*CHOICES, VOID):
        raise BadInput(f"{where}: choice {line['choice']!r} of {two!r} with {line['left']!r} on the left is none: mend or remove the line")
    return line


def add(path: Path, line: Line) -> bool:
    """Add a line for good, unless the same choice has been made before (in another window, say); whether it was added."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = standing(read(path)).get(_key(line))
        if (before is None) == (line["choice"] == VOID):
            return False
        file.seek(0)
        broken = not file.read().endswith(b"\n") and file.tell() > 0
        text = json.dumps({**line, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}, ensure_ascii=False) + "\n"
        file.write((b"\n" if broken else b"") + text.encode())
        file.flush()
    return True


def _key(line: Line) -> Key:
    return (*_of(line["task"], line["candidates"]), line["question"], line["rater"])


def _of(task: str, candidates: Sequence[str]) -> tuple[str, str, str]:
    one, other = sorted(candidates)
    return task, one, other


def standing(lines: Iterable[Line]) -> dict[Key, Line]:
    """The lines that count, by task, both candidates, question and rater."""
    kept: dict[Key, Line] = {}
    for line in lines:  # in the order of the last lines
        kept.pop(_key(line), None)
        if line["choice"] != VOID:
            kept[_key(line)] = line
    return kept


def renew(path: Path, of: Comparison) -> int:
    """Void every choice between answers that these candidates no longer give, so that the question is asked again; how many there were."""
    digests = {item.question: item.digest for item in of.items}
    mine = [line for key, line in standing(read(path)).items() if key[:3] == _of(of.task.called, of.candidates)]
    stale = [line for line in mine if digests.get(line["question"]) not in (None, line["answers"])]
    return sum(add(path, {**line, "choice": VOID}) for line in stale)


def waiting(path: Path, of: Comparison, rater: str) -> list[Item]:
    """The questions that a rater has not been asked."""
    chosen, name = standing(read(path)), _of(of.task.called, of.candidates)
    return [item for item in of.items if (*name, item.question, rater) not in chosen]


def last(path: Path, of: Comparison, rater: str) -> Line | None:
    """The choice that a rater made last, of those that count; None without any."""
    name = _of(of.task.called, of.candidates)
    mine = [line for line in standing(read(path)).values() if _key(line) == (*name, line["question"], rater)]
    return mine[-1] if mine else None


# ------------------------------------------------------------------------------------------------------------------ win rates


class Agreement(NamedTuple):
    """Two raters on the questions that both were asked: the same verdict (one candidate, the other, neither), and Cohen's kappa of it."""

    raters: tuple[str, str]
    questions: int
    same: Interval | None
    kappa: Interval | None


class WinRate(NamedTuple):
    """A comparison's result: how often `candidate` is preferred to `other`, a tie being half a win."""

    task: str
    candidate: str
    other: str
    questions: int
    """That were asked; several raters' verdicts on one are averaged first."""
    raters: int
    shares: dict[str, float]
    """Of wins, ties, losses and both bad, over the questions."""
    rate: Interval
    overall: Interval
    """Over all questions, those with the same answer from both being ties."""
    same: int
    of: int
    """Questions that both answered: `same` of them with the same text."""
    left: Interval | None
    """How often the answer on the left won, where one won: 0.5 where the place plays no part."""
    agreements: tuple[Agreement, ...]
    p: float
    """Of no preference, corrected (Holm) over the comparisons of the log."""

    @property
    def verdict(self) -> str:
        """Words for it: who is preferred, or that no preference is shown."""
        if self.p >= 0.05 or self.rate.low <= 0.5 <= self.rate.high:
            return "no preference shown"
        return f"{self.candidate if self.rate.mean > 0.5 else self.other} is preferred"


def win_rates(lines: Sequence[Line]) -> list[WinRate]:
    """The result of each comparison in a log. The questions are the unit: raters of one question are not independent.

    Raises BadInput where no choice counts.
    """
    by_pair: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for key, line in standing(lines).items():
        by_pair[key[:3]].append(line)
    if not by_pair:
        raise BadInput("no choice is recorded there yet: compare with bash recipes/page.sh --blind")
    scores = {pair: _scores(of) for pair, of in by_pair.items()}
    chances = holm([paired_p(of, {question: 1 - score for question, score in of.items()}) for of in scores.values()])
    return [_win_rate(of, scores[pair], chance) for (pair, of), chance in zip(by_pair.items(), chances, strict=True)]


def _won(line: Line) -> int | None:
    """The place in `candidates` of the one that was preferred; None for neither."""
    if line["choice"] not in ("left", "right"):
        return None
    left = line["candidates"].index(line["left"])
    return int(left if line["choice"] == "left" else 1 - left)


def _verdict(line: Line, first: str) -> int:
    """0: the candidate `first` was preferred, 1: neither, 2: the other."""
    place = _won(line)
    return 1 if place is None else 0 if line["candidates"][place] == first else 2


def _scores(lines: Sequence[Line]) -> dict[str, float]:
    """For each question the mean over its raters: 1 where the first candidate won, 0.5 for neither."""
    by_question: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        by_question[line["question"]].append(1 - _verdict(line, lines[0]["candidates"][0]) / 2)
    return {question: sum(values) / len(values) for question, values in by_question.items()}


def _win_rate(lines: Sequence[Line], scores: Mapping[str, float], chance: float) -> WinRate:
    first, other = lines[0]["candidates"]
    newest = lines[-1]
    kinds = {"win": 0.0, "tie": 0.0, "loss": 0.0, "both bad": 0.0}
    of_question: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        of_question[line["question"]].append(line["choice"] if _won(line) is None else ("win", "", "loss")[_verdict(line, first)])
    for names in of_question.values():
        for name in names:
            kinds[name] += 1 / len(names) / len(of_question)
    rate = wilson(sum(scores.values()) / len(scores), len(scores))
    differing = 1 - newest["same"] / newest["questions"]
    overall = Interval(*(0.5 + (end - 0.5) * differing for end in (rate.mean, rate.low, rate.high)))
    won = [line["choice"] == "left" for line in lines if _won(line) is not None]
    left = wilson(sum(won) / len(won), len(won)) if won else None
    raters = sorted({line["rater"] for line in lines})
    agreements = tuple(found for two in combinations(raters, 2) if (found := _agreement(lines, two)))
    of = (newest["task"], first, other, len(scores), len(raters), kinds, rate, overall, newest["same"], newest["questions"])
    return WinRate(*of, left, agreements, chance)


def _agreement(lines: Sequence[Line], raters: tuple[str, str]) -> Agreement | None:
    first = lines[0]["candidates"][0]
    verdicts: dict[str, dict[str, int]] = {rater: {} for rater in raters}
    for line in lines:
        if line["rater"] in raters:
            verdicts[line["rater"]][line["question"]] = _verdict(line, first)
    mine, yours = (verdicts[rater] for rater in raters)
    if not (shared := sorted(mine.keys() & yours.keys())):
        return None
    counts = [[int(at == 3 * mine[question] + yours[question]) for at in range(9)] for question in shared]
    return Agreement(raters, len(shared), bootstrap_counts(counts, _same), bootstrap_counts(counts, partial(kappa, verdicts=3)))


def _same(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[..., ::4].sum(-1) / sums.sum(-1)


def table(results: Sequence[WinRate]) -> str:
    """The results as text, a row for each comparison, and what there is to know about each."""
    head = ["win rate [95 % interval]", "questions", "raters", "win", "tie", "loss", "both bad", "rate", "p (Holm)"]
    rows = [
        [f"{one.task}: {one.candidate} over {one.other}", str(one.questions), str(one.raters)]
        + [f"{share:.1%}" for share in one.shares.values()]
        + [f" {one.rate}", f"{one.p:.3f}"]
        for one in results
    ]
    lines = text_table.lines([head, *rows], ("<35", ">10", ">8", ">8", ">8", ">8", ">11", ">23", ">10"), ruled=True)
    for one in results:
        lines.append(
            f"\n{one.candidate} over {one.other}: {one.verdict} (ties and both bad are half a win; Wilson interval over questions)"
        )
        if one.same:
            lines.append(f"  {one.same} of {one.of} questions have the same answer from both and were not asked; as ties: {one.overall}")
        if (unasked := one.of - one.same - one.questions) > 0:
            lines.append(f"  {unasked} questions have not been asked yet; the order was drawn beforehand, so these are a fair sample")
        if one.left:
            lines.append(f"  where one won, the answer on the left did in {one.left} (0.5 where the place plays no part)")
        for pair in one.agreements:
            shown = pair.kappa or "not defined (both always gave one verdict)"
            lines.append(
                f"  {' and '.join(pair.raters)} on {pair.questions} questions: the same verdict {pair.same}, Cohen's kappa {shown}"
            )
    return "\n".join(lines)


class Show(argparse.Action):
    """An option that prints the win rates of a log, writes them beside it, and ends the program, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, path: Any, __: object = None) -> None:
        """Do so; the exit code is cli.run's."""
        parser.exit(cli.run(lambda: report(path)))


def report(path: Path) -> int:
    """Print a log's win rates, and write them to NAME.win_rates.json beside it. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"--preferences {path}: no such file: bash recipes/page.sh --blind writes one into the folder of the evaluation")
    results = win_rates(read(reading(path)))
    plain = [one._asdict() | {"verdict": one.verdict, "agreements": [pair._asdict() for pair in one.agreements]} for one in results]
    write_aside({path.with_suffix(".win_rates.json"): json.dumps(plain, ensure_ascii=False, indent=1, default=vars).encode()})
    print(table(results))
    return 0
