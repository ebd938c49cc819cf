"""Judge: generated answers and the teacher's reasoned verdicts on them, checked against labels and rules, for the small judge to learn.

    export OVERTAKE_TEACHER_BASE_URL=https://api.deepseek.com/v1 OVERTAKE_TEACHER_MODEL=deepseek-reasoner OVERTAKE_TEACHER_API_KEY=…
    export OVERTAKE_TEACHER_TIMEOUT=300   # a chain of thought takes longer than the 30 s there are
    python tools/generate.py questions.jsonl train.jsonl --task judge --light deepseek-chat --negatives --balance 1.5

INPUT: `question` and `answer` (a text or a JSON list of alternatives; FlashRAG's `golden_answers` too), `answer_hat` and `label` where
there are any. What has no answer_hat and no label is answered by the light model. OUTPUT is read by overtake/judge: judge_main,
judge_secondary, judge_reason, and who made the answer. A verdict other than the row's label, than what a negative was made for, or,
without these, than what the rules are sure of, is no row: OUTPUT.disagreed.jsonl lists it.
"""

import argparse
import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from overtake import cli, settings
from overtake import generation as teachers
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.generation import Row
from overtake.reading.normal_forms import for_likeness
from overtake.remote import budget, chat
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.answer_judge import judge as grading
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.answer_judge import rule_judge, wiki_qa
from overtake.tasks.answer_judge.columns import JUDGE_FACTS, JUDGE_MAIN, JUDGE_REASON, JUDGE_SECONDARY
from overtake.tasks.answer_judge.judgements import VALUES
from overtake.tasks.answer_judge.negatives import Right, negatives
from overtake.tasks.answer_judge.prompts import answer_messages
from overtake.tasks.answer_judge.rows import JudgeRow

SURE = 0.9
"""From this confidence on the rules' verdict stands against the teacher's."""
_LIGHT_TOKENS = 200
_LENDERS = 50


def light_endpoint(spec: str, teacher: chat.Endpoint) -> chat.Endpoint:
    """The light model of MODEL[@BASE_URL], else at the teacher's address; a key is never sent to another address than its own."""
    match = re.fullmatch(r"([^@]+|.+(?=@http))(?:@(https?://.+))?", spec)
    if not match:
        raise BadInput(f"--light {spec!r}: write MODEL or MODEL@BASE_URL, e.g. deepseek-chat@https://api.deepseek.com/v1")
    base_url = match[2] or teacher.base_url
    key = settings.api_key("OVERTAKE_LIGHT_API_KEY") or (teacher.api_key if base_url == teacher.base_url else "")
    budget.check(match[1])
    return chat.Endpoint("light model", base_url, match[1], key)


def read(path: Path) -> tuple[list[Row], list[Row]]:
    """Return (rows to grade, rejected ones): id, question, gold, answer_hat (None: to be written), both labels, facts, made_by."""
    table = tables.read_rows(path)
    named = table[0] if any(name in table[0] for name in judged.ANSWER_HAT) else {**table[0], "answer_hat": ""}
    try:
        columns = judged.columns_of(named)
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    if "question" not in columns:
        raise BadInput(f"{path}: no column holds the question: name it {' or '.join(judged.QUESTION)}")
    whole: list[Row] = []
    rejected: list[Row] = []
    for index, cells in enumerate(table):
        try:
            row = judged.judge_row(cells, columns)
            if not row.question:
                raise ValueError("the question is blank")
        except ValueError as error:
            rejected.append({"row": tables.row_number(path, index), "reason": str(error)})
            continue
        has_answer = bool(row.answer_hat) or row.main is not None
        whole.append(_row(row, row.answer_hat if has_answer else None, "given", row.main, row.secondary, cells.get(JUDGE_FACTS, "")))
    return whole, rejected


def _row(row: JudgeRow, answer_hat: str | None, made_by: str, main: str | None, secondary: str | None, facts: str) -> Row:
    return {
        "id": row.id,
        "question": row.question,
        "answer": list(row.gold),
        "answer_hat": answer_hat,
        "made_by": made_by,
        "main": main,
        "secondary": secondary,
        JUDGE_FACTS: facts,
    }


def held_out(rows: Sequence[Row], count: int) -> frozenset[str]:
    """The questions that are kept for measuring, as `for_likeness` writes them: `count` of them, at most a quarter.

    Which, follows from the questions alone, so that more rows or another order move few of them.
    """
    questions = {for_likeness(row["question"]) for row in rows}
    drawn = sorted(questions, key=lambda text: hashlib.sha256(text.encode()).digest())
    return frozenset(drawn[: min(count, len(questions) // 4)])


def with_negatives(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """The rows, and behind each whose answer is labelled correct, or right by the rules, one hard negative of each kind."""
    right_answers = {
        at: Right(row["question"], tuple(row["answer"]), row["answer_hat"], row["secondary"])
        for at, row in enumerate(rows)
        if _is_right(row)
    }
    with_made: list[Row] = []
    for at, row in enumerate(rows):
        with_made.append(row)
        if at not in right_answers:
            continue
        others = [candidate for place, candidate in right_answers.items() if place != at]
        lenders = Random(f"{seed} {row['id']}").sample(others, min(_LENDERS, len(others)))
        for number, negative in enumerate(negatives(right_answers[at], lenders, seed), 1):
            verdict = {"main": negative.main, "secondary": negative.secondary, JUDGE_FACTS: list(negative.facts)}
            with_made.append({**row, "id": f"{row['id']}-{number}", "answer_hat": negative.answer_hat, "made_by": negative.kind, **verdict})
    return with_made


def _is_right(row: Row) -> bool:
    ruling = rule_judge.judge(row["question"], row["answer"], row["answer_hat"])
    return bool(ruling.main == "correct" and row["main"] in (None, "correct") and (row["main"] or ruling.confidence >= SURE))


def disagreement(row: Row, main: str, secondary: str) -> str:
    """Say against what the teacher's verdict stands, in words; "" for nothing.

    >>> row = {"question": "capital of France", "answer": ["Paris"], "answer_hat": "It is Paris.", "main": None, "secondary": None}
    >>> disagreement(row, "incorrect", "none")
    'main is incorrect, by the rules (exact) correct'
    >>> disagreement(row | {"main": "correct", "secondary": "none"}, "correct", "incorrect")
    'secondary is incorrect, known to be none'
    """
    for name, of_judge, of_people in (("main", main, row["main"]), ("secondary", secondary, row["secondary"])):
        if of_people and of_judge != of_people:
            return f"{name} is {of_judge}, known to be {of_people}"
    if row["main"]:
        return ""
    rules = rule_judge.judge(row["question"], row["answer"], row["answer_hat"])
    return f"main is {main}, by the rules ({rules.reason}) {rules.main}" if rules.confidence >= SURE and rules.main != main else ""


def balanced(rows: Sequence[Row], most: float, seed: int = 0) -> list[Row]:
    """Rows in their order, of each main verdict at most `most` times as many as of the rarest there is; drawn with a fixed seed.

    >>> rows = [{"judge_main": main} for main in ["correct"] * 5 + ["none"] * 2]
    >>> [row["judge_main"] for row in balanced(rows, 1.5)].count("correct")
    3
    """
    counts = Counter(row[JUDGE_MAIN] for row in rows)
    limit = int(most * min(counts.values(), default=0))
    chosen_rows: set[int] = set()
    for main in counts:
        places = [at for at, row in enumerate(rows) if row[JUDGE_MAIN] == main]
        chosen_rows.update(Random(f"{seed} {main}").sample(places, min(limit, len(places))))
    return [row for at, row in enumerate(rows) if at in chosen_rows]


def _ratio(text: str) -> float:
    if (number := float(text)) < 1:
        raise ValueError
    return number


_ratio.__name__ = "number of at least 1"  # argparse names the type in its error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument(
        "input", type=Path, help=f"questions with reference answers, with or without generated ones; {wiki_qa.MODELSCOPE} is wiki_qa"
    )
    parser.add_argument("output", type=Path, help="graded rows to write")
    parser.add_argument("--light", metavar="MODEL[@BASE_URL]", help="who answers what has no answer_hat (OVERTAKE_LIGHT_API_KEY)")
    parser.add_argument("--negatives", action="store_true", help="add answers made wrong, evading or deceiving on purpose")
    parser.add_argument(
        "--hold-out",
        type=cli.positive,
        metavar="N",
        help="write the answers to N questions, a quarter at most, into OUTPUT's .test beside it",
    )
    parser.add_argument("--balance", type=_ratio, metavar="RATIO", help="of no main verdict more than RATIO times the rarest one's rows")
    teachers.add_arguments(parser, max_tokens=grading.LIMIT, temperature=0.0)


def work(args: argparse.Namespace) -> int:
    """Check everything, let answer, ask for verdicts, check them, write; returns the exit code."""
    started = time.monotonic()
    teachers.check_files(args)
    if hub := wiki_qa.hub_of(str(args.input)):
        args.input = wiki_qa.fetch("train", hub)
    whole, rejected = read(args.input)
    if not whole:
        raise BadInput(f"{args.input}: no row can be graded; row {rejected[0]['row']}: {rejected[0]['reason']}")
    test_questions = held_out(whole, args.hold_out or 0)
    rows = teachers.pilot(whole, args.limit)
    tried = len(rows)
    teacher = teachers.teacher(args.concurrency)
    rows, failed, by_light = _answered(rows, args, teacher.endpoint)
    generated = sum(row["made_by"] != "given" for row in rows)
    if args.negatives:  # what measures is what was written, not what was made wrong
        rows = with_negatives([row for row in rows if not _is_held(row, test_questions)]) + [
            row for row in rows if _is_held(row, test_questions)
        ]
    teacher.calls = [
        grading.answer_call(row["question"], row["answer"], row["answer_hat"], teacher.endpoint, args.max_tokens, args.temperature)
        for row in rows
    ]
    if args.batch_write:
        return teachers.write_batch(args, f"{len(rows)} answers to grade", teacher.calls, rejected)
    teachers.answer(teacher, args, teacher.endpoint.model)
    graded: list[Row] = []
    disagreed: list[Row] = []
    for row, result in zip(rows, teacher.results, strict=True):
        if isinstance(result, Failed):
            failed.append({"id": row["id"], "reason": result.reason, "question": row["question"][:200]})
            continue
        verdict = grading.judgement(result.value)
        line = {name: value for name, value in row.items() if name not in ("main", "secondary")}
        line |= {JUDGE_MAIN: verdict.main, JUDGE_SECONDARY: verdict.secondary, JUDGE_REASON: verdict.reason}
        line["teacher_model"] = result.value["model"]
        if against := disagreement(row, verdict.main, verdict.secondary):
            disagreed.append({**line, "disagreement": against})
        else:
            graded.append(line)
    test = [row for row in graded if _is_held(row, test_questions)]
    graded = [row for row in graded if not _is_held(row, test_questions)]
    balanced_rows = balanced(graded, args.balance) if args.balance else graded
    if balanced_rows:
        tables.write_rows(args.output, balanced_rows)
    apart = ""
    if test:
        path = args.output.with_name(f"{args.output.stem}.test{args.output.suffix}")
        tables.write_rows(path, test)
        apart = f", held out: {len(test)} in {path}"
    files = apart + teachers.write_lists(args.output, rejected, failed) + cli.write_beside(args.output, "disagreed", disagreed)
    forecast = teachers.forecast([*teacher.answers, *by_light], tried, len(whole)) if tried < len(whole) else ""
    for name in (JUDGE_MAIN, JUDGE_SECONDARY):
        counts = Counter(row[name] for row in balanced_rows)
        print(f"{name}: " + ", ".join(f"{counts[value]} {value} ({counts[value] / max(1, len(balanced_rows)):.0%})" for value in VALUES))
    print(
        f"{len(whole) + len(rejected)} rows in, {generated} answers by the light model, {len(rows)} answers graded ({teacher.cached} from "
        f"cache): {len(balanced_rows)} rows, {len(graded) - len(balanced_rows)} left out for balance, "
        f"{len(disagreed)} disagreed, {len(rejected)} rejected, {len(failed)} failed; {teacher.paid}{forecast}, "
        f"{time.monotonic() - started:.0f} s; {args.output if balanced_rows else 'no row was graded, nothing'} written{files}"
    )
    return teachers.exit_code(args, failed)


def _is_held(row: Row, test_questions: frozenset[str]) -> bool:
    return for_likeness(row["question"]) in test_questions


def _answered(rows: Sequence[Row], args: argparse.Namespace, teacher: chat.Endpoint) -> tuple[list[Row], list[Row], list[dict[str, Any]]]:
    """(rows with an answer, those whose answer could not be had, what the light model answered)."""
    blank = [row for row in rows if row["answer_hat"] is None]
    if not blank:
        return list(rows), [], []
    if not args.light:
        raise BadInput(
            f"{args.input}: {len(blank)} rows have no answer_hat: name the model that answers them with --light MODEL[@BASE_URL]"
        )
    light = light_endpoint(args.light, teacher)
    calls = [chat.chat_call(light, answer_messages(row["question"]), _LIGHT_TOKENS, temperature=0.7) for row in blank]
    came = cli.ask(chat.chat_gateway("light model", args.concurrency), calls, light.model)
    results = iter(came)
    answered: list[Row] = []
    failed: list[Row] = []
    for row in rows:
        result = next(results) if row["answer_hat"] is None else None
        if isinstance(result, Failed):
            failed.append({"id": row["id"], "reason": result.reason, "question": row["question"][:200]})
        else:
            answered.append({**row, "answer_hat": result.value["text"], "made_by": light.model} if isinstance(result, Ok) else row)
    return answered, failed, [result.value for result in came if isinstance(result, Ok)]
