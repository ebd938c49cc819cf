"""Best of n: which of the rewrites that `swift sample` drew are kept, measured by the reward that GRPO trains with."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from overtake import cli, settings
from overtake.data import outputs, tables
from overtake.data.tables import BadInput
from overtake.reading.normal_forms import for_likeness
from overtake.reading.tags import strip_think
from overtake.remote import rag
from overtake.remote.gateway import Call, Ok, Result
from overtake.rewards import sampling
from overtake.rewards.measuring import Outage
from overtake.tasks.query_rewrite import conversations
from overtake.tasks.query_rewrite import judge as judging
from overtake.tasks.query_rewrite.columns import QUERY, QUERY_ID, TEACHER_RECALL, TEACHER_REWRITE
from overtake.tasks.query_rewrite.conversations import Row
from overtake.tasks.query_rewrite.measuring import Retrieval, to_judge
from overtake.tasks.query_rewrite.rewards.rag_competition import RagCompetition
from overtake.tasks.query_rewrite.rewards.relevance import relevances, worth
from overtake.tasks.query_rewrite.rewards.rewrite_rules import rejection_reason
from overtake.tasks.query_rewrite.rows import RewriteRow

UNMEASURED, NO_BETTER, FAULTY, UNDRAWN = "not measured", "no better than the question", "every draw breaks a rule", "no draw"

_TOGETHER = 8
"""Questions measured at a time: with 8 draws each, the 64 rewrites of an update in training."""
_TIE = 1e-9
_ENOUGH = 8
"""Draws of a question, as many as GRPO compares: of fewer equal ones it is not shown that they always are."""


@dataclass(frozen=True)
class Draw:
    """A rewrite that was drawn and what it was measured to be worth."""

    text: str
    score: float | None
    """RagCompetition's; None where it could not be had."""
    retrieval: Retrieval | None
    complete: bool = True
    """Nothing that was asked about it failed."""


@dataclass(frozen=True)
class Question:
    """A question with its distinct draws that break no rule, measured."""

    draws: list[Draw]
    original: float | None
    """The retrieval quality of the question itself; None where it could not be had."""


def read_draws(path: Path, rows: Mapping[str, Row]) -> dict[str, list[str]]:
    """Draws of `swift sample` on each row, by the row's key, without think blocks."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file: draw with recipes/sample_rag.sh")
    draws: dict[str, list[str]] = {}
    for number, line in enumerate(tables.read_objects(path), 1):
        if not line:
            continue
        messages = line.get("messages")
        if not isinstance(messages, list) or not messages or messages[-1].get("role") != "assistant":
            raise BadInput(f"{path}: line {number} ends in no assistant turn: give what `swift sample` wrote")
        key = sampling.key(messages)
        if key not in rows:
            raise BadInput(f"{path}: line {number} was drawn on a conversation that is none of the rows: give the rows it was drawn on")
        draws.setdefault(key, []).append(strip_think(messages[-1]["content"]))
    return draws


def behind(query: str, text: str) -> str:
    """A draw behind its question, unless it says the question itself: what a search line keeps of the user's words, and what it adds.

    >>> behind("脸垮吃啥", "皮肤松弛 真皮弹性"), behind("脸垮吃啥？", "脸垮吃啥 皮肤松弛")
    ('脸垮吃啥 皮肤松弛 真皮弹性', '脸垮吃啥 皮肤松弛')
    """
    return text if for_likeness(query) in for_likeness(text) else f"{query} {text}"


def best(question: Question) -> Draw | str:
    """The draw to keep, or why there is none.

    >>> def draw(text, score, quality):
    ...     return Draw(text, score, None if score is None else Retrieval((rag.Hit("d", quality),), ()))
    >>> best(Question([draw("a", 0.1, 0.6), draw("b", 0.3, 0.5), draw("c", None, 0.9)], 0.4)).text
    'b'
    >>> best(Question([draw("a", 0.1, 0.6)], 0.6)), best(Question([draw("c", None, 0.9)], 0.4))
    ('no better than the question', 'not measured')
    """
    measured = [draw for draw in question.draws if draw.score is not None]
    if question.original is None or not measured:
        return UNMEASURED
    better = [draw for draw in measured if draw.retrieval and draw.retrieval.student_quality > question.original + _TIE]
    return max(better, key=lambda draw: draw.score or 0.0) if better else NO_BETTER


def teaches_nothing(drawn: Sequence[str], question: Question | None) -> bool:
    """Return whether all draws of a question were measured and earn the same, so that GRPO would learn nothing from them.

    `drawn`: the texts, equal ones each. One that breaks a rule is not measured, and neither is one of which a verdict failed.

    >>> equal = Question([Draw("a", 0.1, None), Draw("b", 0.1, None)], 0.5)
    >>> teaches_nothing(["a", "b"] * 4, equal), teaches_nothing(["a", "b"] * 3, equal), teaches_nothing(["a", "talk"] * 4, equal)
    (True, False, False)
    >>> teaches_nothing(["a", "b"] * 4, Question([Draw("a", 0.1, None), Draw("b", None, None)], 0.5))
    False
    """
    scores = {draw.text: draw.score for draw in question.draws if draw.score is not None and draw.complete} if question else {}
    if len(drawn) < _ENOUGH or not set(drawn) <= scores.keys():
        return False
    return max(scores.values()) - min(scores.values()) <= _TIE


def measure(questions: Sequence[tuple[Row, Sequence[str]]]) -> list[Question]:
    """Rows and the rewrites to measure on each, measured by the reward that GRPO trains with.

    Raises Outage when the RAG service is down.
    """
    rows = [RewriteRow.from_columns(row) for row, _ in questions]
    unknown = [_original_call(row) for row in rows if row.original_recall is None]
    originals = rag.rag_gateway().submit(unknown, settings.load().batch_deadline)
    texts = [text for _, mine in questions for text in mine]
    scored = RagCompetition().measure(texts, **conversations.columns([row for row, mine in questions for _ in mine]))
    draws = iter(
        Draw(text, score.value, Retrieval.of(score.parts), score.parts["judge_failed"] is None)
        for text, score in zip(texts, scored, strict=True)
    )
    live = iter(originals.result())
    measured = []
    for row, (_, mine) in zip(rows, questions, strict=True):
        hits = _answered(next(live)) if row.original_recall is None else row.original_recall
        original = None if hits is None else worth(relevances(hits, row.gold), row.gold)
        measured.append(Question([next(draws) for _ in mine], original))
    return measured


def _original_call(row: RewriteRow) -> Call:
    """The question sent as the rewrite, or the service would rewrite by itself."""
    return rag.rag_call(row.query, row.query, row.tenant, row.kb, labelled=bool(row.gold))


def _answered(result: Result) -> list[rag.Hit] | None:
    return rag.hits(result.value) if isinstance(result, Ok) else None


def check(rows: Sequence[Row], output: Path) -> None:
    """Refuse what could not be measured or written, with one call to each service: before a model is loaded and anything is paid for.

    Raises BadInput, SettingsError or Abort.
    """
    tables.check_output(output)
    try:
        parsed = [RewriteRow.from_columns(row) for row in rows]
    except ValueError as error:
        raise BadInput(str(error)) from None
    for row in parsed:
        if row.teacher_recall is None and not row.teacher_rewrite:
            raise BadInput(f"{row.query_id}: neither {TEACHER_RECALL} nor {TEACHER_REWRITE}: there is nothing to compete with")
    cli.probe(rag.rag_gateway(), _original_call(parsed[0]))
    config = settings.load()
    to_be_judged = to_judge(parsed, None, config.judge_share if config.weight_judge else 0.0)
    if judged := [parsed_row for parsed_row, ask in zip(parsed, to_be_judged, strict=True) if ask and parsed_row.teacher_rewrite]:
        first = judged[0]
        cli.probe(judging.judge_gateway(), judging.judge_call(first.query, first.teacher_rewrite, first.profile, first.history))


def sft_row(row: Row, draw: Draw, original: float, source: str) -> Row:
    """A row in the form of tools/convert.py's train.jsonl, with the columns of the RL row besides."""
    assert draw.retrieval is not None and draw.score is not None  # `best` keeps no other
    top1 = draw.retrieval.student[0] if draw.retrieval.student else 0.0
    metadata = {"query_id": row[QUERY_ID], "top1_score": top1, "source": source, "score": round(draw.score, 6)}
    qualities = {"quality": draw.retrieval.student_quality, "teacher_quality": draw.retrieval.teacher_quality, "original_quality": original}
    answer = {"role": "assistant", "content": draw.text}
    return {**row, "messages": [*sampling.prompt(row["messages"]), answer], "metadata": {**metadata, **qualities}}


def work(args: argparse.Namespace) -> int:
    """Check everything, measure, choose, write; 0 done, 1 some measurements failed.

    Raises BadInput, SettingsError, and Abort for a dead service or when nothing was kept.
    """
    rows = conversations.read(args.rows)
    check(list(rows.values()), args.output)
    if args.selected:
        tables.check_output(args.selected)
    if args.check:
        return 0
    drawn = read_draws(args.draws, rows)
    if args.behind:
        drawn = {key: [behind(rows[key][QUERY], text) for text in texts] for key, texts in drawn.items()}
    distinct = [(key, text) for key, texts in drawn.items() for text in dict.fromkeys(texts)]
    faults = [rejection_reason(text, rows[key][QUERY]) for key, text in distinct]
    sound: dict[str, list[str]] = {}
    for (key, text), broken in zip(distinct, faults, strict=True):
        if not broken:
            sound.setdefault(key, []).append(text)
    measured = _measured(rows, sound)
    outcomes: dict[str, Draw | str] = {key: best(measured[key]) if key in measured else FAULTY if key in drawn else UNDRAWN for key in rows}
    chosen_rows = [
        sft_row(rows[key], draw, measured[key].original or 0.0, args.source) for key, draw in outcomes.items() if isinstance(draw, Draw)
    ]
    left_out = [{"query_id": rows[key][QUERY_ID], "reason": why} for key, why in outcomes.items() if isinstance(why, str)]
    files = cli.write_beside(args.output, "left_out", left_out)
    if chosen_rows:
        tables.write_aside({args.output: tables.json_lines(chosen_rows)})
    selected = _select(args.selected, rows, drawn, measured) if args.selected else ""
    reasons = Counter(row["reason"] for row in left_out)
    failed = sum(draw.score is None for question in measured.values() for draw in question.draws)
    # Where no draw of a question got a verdict, the reward does without the judge.
    searches, judged = rag.rag_gateway().meter, judging.judge_gateway().meter
    copies = faults.count("copy")
    print(
        f"{len(rows)} questions in, {len(chosen_rows)} kept; left out: {reasons[NO_BETTER]} no better than the question, "
        f"{reasons[UNMEASURED]} not measured, {reasons[FAULTY]} by the rules, {reasons[UNDRAWN]} without a draw\n"
        f"{sum(map(len, drawn.values()))} draws, {len(distinct)} distinct: {copies} copies of the question, "
        f"{len(faults) - copies - faults.count(None)} with another fault, {failed} not measured\n"
        f"{searches.calls} retrievals ({searches.cached} from cache), {judged.calls} verdicts ({judged.cached} from cache), "
        f"{judged.failed.total()} of them failed\n"
        f"{_worth(chosen_rows)}{args.output if chosen_rows else 'nothing was kept, no set'} written{files}{selected}"
    )
    if failed or reasons[UNMEASURED] or judged.failed:
        print("some measurements failed: run the same command again to retry just those, the others come from the cache", file=sys.stderr)
        return 1
    if not chosen_rows:
        raise cli.Abort(f"none of {len(rows)} questions has a draw that retrieves better than itself: draw more, or from a better student")
    return 0


def _select(output: Path, rows: Mapping[str, Row], drawn: Mapping[str, Sequence[str]], measured: Mapping[str, Question]) -> str:
    """Write the rows that teach something, as they are; the counts in words."""
    left_out = {key for key in rows if teaches_nothing(drawn.get(key, ()), measured.get(key))}
    remaining = [row for key, row in rows.items() if key not in left_out]
    few = sum(len(drawn.get(key, ())) < _ENOUGH for key in rows)
    words = f"{len(left_out)} of {len(rows)} questions left out of which every draw earns the same"
    words += f" ({few} have fewer than {_ENOUGH} draws and stay)" if few else ""
    if not remaining:
        outputs.remove(output)
        return f"\n{words}: nothing remains, {output} not written"
    tables.write_aside({output: tables.json_lines(remaining)})
    return f"\n{words}; {output}: {len(remaining)}"


def _measured(rows: Mapping[str, Row], sound: Mapping[str, Sequence[str]]) -> dict[str, Question]:
    measured: dict[str, Question] = {}
    keys = list(sound)
    with tqdm(total=len(keys), desc="measuring", file=sys.stderr) as bar:
        for start in range(0, len(keys), _TOGETHER):
            part = keys[start : start + _TOGETHER]
            try:
                measured.update(zip(part, measure([(rows[key], sound[key]) for key in part]), strict=True))
            except Outage as error:
                raise cli.Abort(str(error)) from None
            except ValueError as error:  # gold labels, and a service that does not name its documents
                raise BadInput(str(error)) from None
            bar.update(len(part))
    return measured


def _worth(chosen_rows: Sequence[Row]) -> str:
    if not chosen_rows:
        return ""
    worth = [row["metadata"] for row in chosen_rows]
    means = {name: fmean(each[f"{name}quality"] for each in worth) for name in ("", "original_", "teacher_")}
    below = sum(each["score"] < 0 for each in worth)
    return (
        f"kept: mean quality {means['']:.3f} (question {means['original_']:.3f}, teacher {means['teacher_']:.3f}), {below} of them below "
        "the teacher's rewrite\n"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("rows", type=Path, help="rl_train.jsonl, as tools/convert.py writes it")
    parser.add_argument("draws", type=Path, help="what `swift sample` wrote on it")
    parser.add_argument("output", type=Path, help="rows for SFT (.jsonl)")
    parser.add_argument(
        "--selected",
        type=Path,
        metavar="FILE",
        help=f"also write the rows for RL of which not every draw ({_ENOUGH} or more, all measured) earns the same",
    )
    parser.add_argument("--behind", action="store_true", help="measure and keep each draw behind its question, unless it says that itself")
    parser.add_argument("--source", default="student", help="who drew, for the metadata (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="only check rows, output and services; DRAWS need not be there yet")
