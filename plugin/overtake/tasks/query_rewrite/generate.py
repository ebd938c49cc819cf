"""Query rewriting: let a teacher rewrite the questions of a sheet (step 1 of its data).

    export OVERTAKE_TEACHER_BASE_URL=https://api.openai.com/v1 OVERTAKE_TEACHER_MODEL=gpt-5-mini OVERTAKE_TEACHER_API_KEY=…
    python tools/generate.py questions.xlsx pilot.xlsx --tenant fivedoctors --limit 20 --compare-with deepseek-chat@https://api.deepseek.com/v1
    python tools/generate.py questions.xlsx rewrites.xlsx --tenant fivedoctors

A row of OUTPUT is the sheet's row and `rewritten_query`, `teacher_model`; a failed call is never a copy of the question.
"""

import argparse
import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from overtake import cli, settings
from overtake import generation as teachers
from overtake.data import tables
from overtake.data.cells import no_text, plain
from overtake.data.near_duplicates import is_copy
from overtake.data.tables import BadInput
from overtake.generation import Row, Teacher
from overtake.reading.normal_forms import for_likeness
from overtake.reading.verdicts import Text, Verdict, read_object
from overtake.remote import budget, chat
from overtake.remote.gateway import Ok
from overtake.tasks.query_rewrite import prompts
from overtake.tasks.query_rewrite.unwrapping import LONGEST, clean

QUESTION = ("问题", "original_query", "query", "text", "question")
PROFILE = ("用户画像", "user_profile")
HISTORY = ("历史摘要", "history_summary")
ID = ("query_id", "_id", "编号")


def usable_rows(path: Path, sheet: Sequence[dict[str, str]], question: str, tenant: str) -> tuple[list[Row], list[Row]]:
    """(rows to ask, rows rejected with their number and reason), in the sheet's order."""
    profile, history, key = _first(sheet[0], PROFILE), _first(sheet[0], HISTORY), _first(sheet[0], ID)
    rows, rejected = [], []
    ids: dict[str, int] = {}
    asked: dict[tuple[str, str, str], int] = {}
    for index, cells in enumerate(sheet):
        number = tables.row_number(path, index)
        given = {name: cells[name] for name in (question, profile, history) if name}
        told = {name: (text if no_text(text) else plain(text)).strip() for name, text in given.items()}
        query, about, past = told[question], told.get(profile, ""), told.get(history, "")
        stem = hashlib.sha256(query.encode()).hexdigest()[:8]
        query_id = (cells[key].strip() if key else "") or f"row{number}-{stem}"
        # The same words from another user, or later in a conversation, are another question.
        same = (for_likeness(query), about, past)
        reason = ""
        if strange := [f"{name}: {no_text(text)}" for name, text in given.items() if no_text(text)]:
            reason = strange[0]
        elif not same[0]:
            reason = "the question is blank" if not query else "the question holds no word"
        elif long := [name for name, text in ((question, query), (profile, about), (history, past)) if len(text) > LONGEST]:
            reason = f"{long[0]} is over {LONGEST:,} characters"
        elif same in asked:
            reason = f"the same question stands in row {asked[same]}"
        elif query_id in ids:
            reason = f"{key} {query_id!r} stands already in row {ids[query_id]}"
        if reason:
            rejected.append({"row": number, "reason": reason, question: query[:200]})
            continue
        asked[same] = ids[query_id] = number
        made = {"query_id": query_id, "original_query": query, "rewritten_query": "", "user_profile": about, "history_summary": past}
        other = {name: text for name, text in cells.items() if name not in {question, profile, history, key, *made}}
        rows.append({**other, **made, "tenant_id": tenant, "teacher_model": ""})
    return rows, rejected


class _Profile(Verdict):
    user_profile: Annotated[Text, Field(alias="用户画像")]
    history_summary: Annotated[Text, Field(alias="历史摘要")]


def read_profile(text: str) -> dict[str, Any]:
    """{"user_profile", "history_summary"} as prompts/extract_profile.txt asks for them; either may be "". Raises ValueError otherwise.

    >>> read_profile('{"用户画像": " 孕妇 ", "历史摘要": ""}')
    {'user_profile': '孕妇', 'history_summary': ''}
    """
    return read_object(text, _Profile).model_dump()


def extract_profiles(rows: Sequence[Row], teacher: Teacher, limit: int) -> tuple[int, int]:
    """Fill in profile and history where the sheet lacks them: (how many rows were asked for, how many failed and stay empty)."""
    lacking = [row for row in rows if not (row["user_profile"] and row["history_summary"])]

    system = {"role": "system", "content": prompts.prompt("extract_profile")}
    calls = [
        chat.chat_call(
            teacher.endpoint, [system, {"role": "user", "content": row["original_query"]}], limit, read=read_profile, form="profile"
        )
        for row in lacking
    ]
    failed = 0
    for row, result in zip(lacking, cli.ask(teacher.gateway, calls, "profiles"), strict=True):
        if isinstance(result, Ok):
            row.update({name: row[name] or result.value[name] for name in ("user_profile", "history_summary")})
        else:
            failed += 1
    return len(lacking), failed


def rewrite_calls(rows: Sequence[Row], to: chat.Endpoint, limit: int, temperature: float) -> list[chat.ChatCall]:
    """One call for each row whose value holds a clean "rewrite"."""
    return [
        chat.chat_call(
            to,
            prompts.rewrite_messages(*_prompt_parts(row)),
            limit,
            temperature,
            read=lambda text: {"rewrite": clean(text)},
            form="rewrite",
        )
        for row in rows
    ]


def compare_endpoint(wanted: str, teacher: chat.Endpoint) -> chat.Endpoint:
    """The second teacher of MODEL[@BASE_URL]; a key is never sent to another address than its own."""
    found = re.fullmatch(r"([^@]+|.+(?=@http))(?:@(https?://.+))?", wanted)
    if not found:
        raise BadInput(f"--compare-with {wanted!r}: write MODEL or MODEL@BASE_URL, e.g. deepseek-chat@https://api.deepseek.com/v1")
    base_url = found[2] or teacher.base_url
    key = settings.api_key("OVERTAKE_COMPARE_API_KEY") or (teacher.api_key if base_url == teacher.base_url else "")
    if (found[1], base_url) == (teacher.model, teacher.base_url):
        raise BadInput(f"--compare-with {wanted!r} is the teacher itself: name another model")
    budget.check(found[1])
    return chat.Endpoint("compare", base_url, found[1], key)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("input", type=Path, help="sheet of questions")
    parser.add_argument("output", type=Path, help="sheet of rewrites to write")
    parser.add_argument("--tenant", required=True, help="whose prompt to use: prompts/rewrite_TENANT.txt")
    parser.add_argument("--question-column", help=f"default: the first there is of {', '.join(QUESTION)}")
    parser.add_argument("--compare-with", metavar="MODEL[@BASE_URL]", help="a second teacher on the same rows (OVERTAKE_COMPARE_API_KEY)")
    parser.add_argument("--extract-profile", action="store_true", help="let the teacher fill in profile and history where they lack")
    teachers.add_arguments(parser, max_tokens=200, temperature=0.3)


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; returns the exit code."""
    started = time.monotonic()
    rows, rejected, whole = _prepared(args)
    asked = _teachers(args)
    first = asked[0]
    if args.batch_write:
        calls = rewrite_calls(rows, first.endpoint, args.max_tokens, args.temperature)
        return teachers.write_batch(args, f"{len(rows)} rows to rewrite", calls, rejected)
    for teacher in asked[1:]:  # the first is probed when it is asked
        cli.probe(teacher.gateway, rewrite_calls(rows[:1], teacher.endpoint, args.max_tokens, args.temperature)[0])
    extracted = extract_profiles(rows, first, args.max_tokens) if args.extract_profile else (0, 0)
    for teacher in asked:
        teacher.calls = rewrite_calls(rows, teacher.endpoint, args.max_tokens, args.temperature)
        teachers.answer(teacher, args, teacher.endpoint.model)
    done = [_answered(row, result) for row, result in zip(rows, first.results, strict=True) if isinstance(result, Ok)]
    failed = [
        {"query_id": row["query_id"], "teacher": teacher.endpoint.model, "reason": result.reason, "original_query": row["original_query"]}
        for teacher in asked
        for row, result in zip(rows, teacher.results, strict=True)
        if not isinstance(result, Ok)
    ]
    if done:
        tables.write_rows(args.output, done)
    files = teachers.write_lists(args.output, rejected, failed)
    if len(asked) == 2:
        files += _write_comparison(args.output, rows, asked)
        for teacher in asked:
            print(_teacher_words(teacher, rows, whole))
    copies = sum(is_copy(row["original_query"], row["rewritten_query"]) for row in done)
    profiles = f", profiles {extracted[0] - extracted[1]} of {extracted[0]}" if args.extract_profile else ""
    print(
        f"{whole + len(rejected)} rows in, {len(done)} rewritten ({first.cached} from cache), {len(rejected)} rejected, "
        f"{len(failed)} failed, {copies} copies{profiles}; {first.paid}, "
        f"{time.monotonic() - started:.0f} s; {args.output if done else 'no row was rewritten, nothing'} written{files}"
    )
    return teachers.exit_code(args, failed)


def _prepared(args: argparse.Namespace) -> tuple[list[Row], list[Row], int]:
    """(rows to ask, rejected rows, how many rows could be asked without --limit); raises before anything is spent."""
    if args.batch_write or args.batch_read:
        _check_batch(args)
    if args.tenant not in prompts.tenants():
        raise BadInput(
            f"--tenant {args.tenant!r}: there are {', '.join(prompts.tenants())}; a new one is a file prompts/rewrite_{args.tenant}.txt"
        )
    teachers.check_files(args)
    sheet = tables.read_rows(args.input, required=[args.question_column] if args.question_column else [])
    question = args.question_column or _first(sheet[0], QUESTION)
    if not question:
        raise BadInput(
            f"{args.input}: no column {', '.join(QUESTION)}; the columns there are {', '.join(sheet[0])}: name one with --question-column"
        )
    rows, rejected = usable_rows(args.input, sheet, question, args.tenant)
    if not rows:
        raise BadInput(f"{args.input}: none of {len(sheet)} rows can be asked; row {rejected[0]['row']}: {rejected[0]['reason']}")
    tables.check_cells(args.output, rows)
    return teachers.pilot(rows, args.limit), rejected, len(rows)


def _check_batch(args: argparse.Namespace) -> None:
    """Raise BadInput for options that batch mode has no place for."""
    if args.extract_profile:
        raise BadInput("--extract-profile changes the requests that a batch holds: fill the profiles in without a batch, or leave it out")
    if args.compare_with:
        raise BadInput(
            "--compare-with asks a second teacher, and a batch has one: write a batch for each, with OVERTAKE_TEACHER_* set to it"
        )


def _teachers(args: argparse.Namespace) -> list[Teacher]:
    found = [teachers.teacher(args.concurrency)]
    if args.compare_with:
        second = compare_endpoint(args.compare_with, found[0].endpoint)
        found.append(Teacher(second, chat.chat_gateway("compared teacher", args.concurrency)))
    return found


def _prompt_parts(row: Row) -> tuple[str, str, str, str]:
    return row["tenant_id"], row["original_query"], row["user_profile"], row["history_summary"]


def _answered(row: Row, result: Ok) -> Row:
    return {**row, "rewritten_query": result.value["rewrite"], "teacher_model": result.value["model"]}


def _write_comparison(output: Path, rows: Sequence[Row], asked: Sequence[Teacher]) -> str:
    path = output.with_name(f"{output.stem}.compare{output.suffix}")
    table = []
    for row, one, two in zip(rows, *(teacher.results for teacher in asked), strict=True):
        both = {"query_id": row["query_id"], "original_query": row["original_query"]}
        for name, result in (("", one), ("compare_", two)):
            both[f"{name}rewritten_query"] = result.value["rewrite"] if isinstance(result, Ok) else ""
            both[f"{name}teacher_model"] = result.value["model"] if isinstance(result, Ok) else ""
        table.append(both)
    tables.write_rows(path, table)
    return f", comparison: {path}"


def _teacher_words(teacher: Teacher, rows: Sequence[Row], whole: int) -> str:
    """What this teacher's rewrites cost, whether they were paid now or earlier, and what the whole sheet would."""
    answers = teacher.answers
    pairs = [(row, result.value) for row, result in zip(rows, teacher.results, strict=True) if isinstance(result, Ok)]
    copies = sum(is_copy(row["original_query"], value["rewrite"]) for row, value in pairs)
    tokens = sum(sum(value["usage"].values()) for value in answers)
    length = sum(len(value["rewrite"]) for value in answers) / max(len(answers), 1)
    usd = sum(value["usd"] or 0.0 for value in answers)
    estimate = ""
    if answers and teacher.priced:
        estimate = f", about {usd / len(answers) * whole:.4f} USD for all {whole} rows"
    return (
        f"{teacher.endpoint.model}: {len(rows)} calls, {len(rows) - len(answers)} failed, {copies} copies, mean length {length:.1f}, "
        f"{tokens:,} tokens, {teacher.usd(usd)}{estimate}"
    )


def _first(row: dict[str, str], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), "")
