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
from typing import Annotated, Any, NamedTuple

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
DIALOGUE = ("对话", "对话记录", "聊天记录", "dialogue", "conversation")
ID = ("query_id", "_id", "编号")


def usable_rows(path: Path, sheet: Sequence[dict[str, str]], question: str, tenant: str, dialogue: str = "") -> tuple[list[Row], list[Row]]:
    """Return (rows to ask, rows rejected with their number and reason), in the sheet's order; `dialogue`: a column of earlier turns."""
    profile, history, key = _first(sheet[0], PROFILE), _first(sheet[0], HISTORY), _first(sheet[0], ID)
    rows, rejected = [], []
    ids: dict[str, int] = {}
    first_of: dict[tuple[str, ...], int] = {}
    for index, cells in enumerate(sheet):
        number = tables.row_number(path, index)
        values = {name: cells[name] for name in (question, profile, history, dialogue) if name}
        texts = {name: (text if no_text(text) else plain(text)).strip() for name, text in values.items()}
        query, about, past = texts[question], texts.get(profile, ""), texts.get(history, "")
        stem = hashlib.sha256(query.encode()).hexdigest()[:8]
        query_id = (cells[key].strip() if key else "") or f"row{number}-{stem}"
        # The same words from another user, or later in a conversation, are another question.
        same = (for_likeness(query), about, past, texts.get(dialogue, ""))
        reason = ""
        if strange := [f"{name}: {no_text(text)}" for name, text in values.items() if no_text(text)]:
            reason = strange[0]
        elif not same[0]:
            reason = "the question is blank" if not query else "the question holds no word"
        elif long := [name for name, text in ((question, query), (profile, about), (history, past)) if len(text) > LONGEST]:
            reason = f"{long[0]} is over {LONGEST:,} characters"
        elif same in first_of:
            reason = f"the same question stands in row {first_of[same]}"
        elif query_id in ids:
            reason = f"{key} {query_id!r} stands already in row {ids[query_id]}"
        if reason:
            rejected.append({"row": number, "reason": reason, question: query[:200]})
            continue
        first_of[same] = ids[query_id] = number
        standard = {"query_id": query_id, "original_query": query, "rewritten_query": "", "user_profile": about, "history_summary": past}
        other = {name: text for name, text in cells.items() if name not in {question, profile, history, key, *standard}}
        rows.append({**other, **standard, "tenant_id": tenant, "teacher_model": ""})
    return rows, rejected


class _Profile(Verdict):
    user_profile: Annotated[Text, Field(alias="用户画像")]
    history_summary: Annotated[Text, Field(alias="历史摘要")]


def read_profile(text: str) -> dict[str, Any]:
    """Read {"user_profile", "history_summary"} as prompts/extract_profile.txt asks; either may be "". Raises ValueError otherwise.

    >>> read_profile('{"用户画像": " 孕妇 ", "历史摘要": ""}')
    {'user_profile': '孕妇', 'history_summary': ''}
    """
    return read_object(text, _Profile).model_dump()


class Extracted(NamedTuple):
    """Profiles that the teacher was asked for, and the answers that came."""

    asked: int
    answers: list[dict[str, Any]]


def profile_messages(question: str, dialogue: str = "") -> list[dict[str, str]]:
    """Messages that hold what a profile and a history are read out of: the question, and the end of the conversation before it, if any.

    >>> profile_messages("能吃吗", "坐席：您好\\n用户：我怀孕了")[1]["content"]
    '对话：\\n坐席：您好\\n用户：我怀孕了\\n\\n问题：能吃吗'
    """
    user = f"对话：\n{dialogue[-LONGEST:]}\n\n问题：{question}" if dialogue else question
    return [{"role": "system", "content": prompts.prompt("extract_profile")}, {"role": "user", "content": user}]


def extract_profiles(rows: Sequence[Row], teacher: Teacher, limit: int, dialogue: str = "") -> Extracted:
    """Fill in profile and history where the sheet lacks them, from the question and the column `dialogue`; who failed stays empty."""
    lacking = [row for row in rows if not (row["user_profile"] and row["history_summary"])]
    calls = [
        chat.chat_call(
            teacher.endpoint,
            profile_messages(row["original_query"], plain(row[dialogue]).strip() if dialogue else ""),
            limit,
            parse=read_profile,
            form="profile",
        )
        for row in lacking
    ]
    extracted = Extracted(len(lacking), [])
    for row, result in zip(lacking, cli.ask(teacher.gateway, calls, "profiles"), strict=True):
        if isinstance(result, Ok):
            row.update({name: row[name] or result.value[name] for name in ("user_profile", "history_summary")})
            extracted.answers.append(result.value)
    return extracted


def rewrite_calls(rows: Sequence[Row], to: chat.Endpoint, limit: int, temperature: float) -> list[chat.ChatCall]:
    """One call for each row whose value holds a clean "rewrite"."""
    return [
        chat.chat_call(
            to,
            prompts.rewrite_messages(*_prompt_parts(row)),
            limit,
            temperature,
            parse=lambda text: {"rewrite": clean(text)},
            form="rewrite",
            short=True,
        )
        for row in rows
    ]


def compare_endpoint(spec: str, teacher: chat.Endpoint) -> chat.Endpoint:
    """The second teacher of MODEL[@BASE_URL]; a key is never sent to another address than its own."""
    match = re.fullmatch(r"([^@]+|.+(?=@http))(?:@(https?://.+))?", spec)
    if not match:
        raise BadInput(f"--compare-with {spec!r}: write MODEL or MODEL@BASE_URL, e.g. deepseek-chat@https://api.deepseek.com/v1")
    base_url = match[2] or teacher.base_url
    key = settings.api_key("OVERTAKE_COMPARE_API_KEY") or (teacher.api_key if base_url == teacher.base_url else "")
    if (match[1], base_url) == (teacher.model, teacher.base_url):
        raise BadInput(f"--compare-with {spec!r} is the teacher itself: name another model")
    budget.check(match[1])
    return chat.Endpoint("compare", base_url, match[1], key)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("input", type=Path, help="sheet of questions")
    parser.add_argument("output", type=Path, help="sheet of rewrites to write")
    parser.add_argument("--tenant", required=True, help="whose prompt to use: prompts/rewrite_TENANT.txt")
    parser.add_argument("--question-column", help=f"default: the first there is of {', '.join(QUESTION)}")
    parser.add_argument("--compare-with", metavar="MODEL[@BASE_URL]", help="a second teacher on the same rows (OVERTAKE_COMPARE_API_KEY)")
    parser.add_argument("--extract-profile", action="store_true", help="let the teacher fill in profile and history where they lack")
    parser.add_argument("--dialogue-column", help=f"what was said before, for --extract-profile; default: any of {', '.join(DIALOGUE)}")
    teachers.add_arguments(parser, max_tokens=200, temperature=0.3)


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; returns the exit code."""
    started = time.monotonic()
    rows, rejected, whole, dialogue = _prepared(args)
    candidates = _teachers(args)
    first = candidates[0]
    if args.batch_write:
        calls = rewrite_calls(rows, first.endpoint, args.max_tokens, args.temperature)
        return teachers.write_batch(args, f"{len(rows)} rows to rewrite", calls, rejected)
    for teacher in candidates[1:]:  # the first is probed when it is asked
        cli.probe(teacher.gateway, rewrite_calls(rows[:1], teacher.endpoint, args.max_tokens, args.temperature)[0])
    extracted = extract_profiles(rows, first, args.max_tokens, dialogue) if args.extract_profile else Extracted(0, [])
    for teacher in candidates:
        teacher.calls = rewrite_calls(rows, teacher.endpoint, args.max_tokens, args.temperature)
        teachers.answer(teacher, args, teacher.endpoint.model)
    answered_rows = [_answered(row, result) for row, result in zip(rows, first.results, strict=True) if isinstance(result, Ok)]
    failed = [
        {"query_id": row["query_id"], "teacher": teacher.endpoint.model, "reason": result.reason, "original_query": row["original_query"]}
        for teacher in candidates
        for row, result in zip(rows, teacher.results, strict=True)
        if not isinstance(result, Ok)
    ]
    if answered_rows:
        tables.write_rows(args.output, answered_rows)
    files = teachers.write_lists(args.output, rejected, failed)
    if len(candidates) == 2:
        files += _write_comparison(args.output, rows, candidates)
        for teacher in candidates:
            print(_teacher_words(teacher, rows, whole))
    copies = sum(is_copy(row["original_query"], row["rewritten_query"]) for row in answered_rows)
    asked_in_all = [*first.answers, *extracted.answers]
    forecast = teachers.forecast(asked_in_all, len(rows), whole) if len(rows) < whole and len(candidates) == 1 else ""
    profiles = f", profiles {len(extracted.answers)} of {extracted.asked}" if args.extract_profile else ""
    print(
        f"{whole + len(rejected)} rows in, {len(answered_rows)} rewritten ({first.cached} from cache), {len(rejected)} rejected, "
        f"{len(failed)} failed, {copies} copies{profiles}; {first.paid}{forecast}, "
        f"{time.monotonic() - started:.0f} s; {args.output if answered_rows else 'no row was rewritten, nothing'} written{files}"
    )
    return teachers.exit_code(args, failed)


def _prepared(args: argparse.Namespace) -> tuple[list[Row], list[Row], int, str]:
    """(rows to ask, rejected rows, how many rows could be asked without --limit, dialogue's column); raises before anything is spent."""
    if args.batch_write or args.batch_read:
        _check_batch(args)
    if args.tenant not in prompts.tenants():
        raise BadInput(
            f"--tenant {args.tenant!r}: there are {', '.join(prompts.tenants())}; a new one is a file prompts/rewrite_{args.tenant}.txt"
        )
    teachers.check_files(args)
    sheet = tables.read_rows(args.input, required=[name for name in (args.question_column, args.dialogue_column) if name])
    question = args.question_column or _first(sheet[0], QUESTION)
    if not question:
        raise BadInput(
            f"{args.input}: no column {', '.join(QUESTION)}; the columns there are {', '.join(sheet[0])}: name one with --question-column"
        )
    dialogue = args.dialogue_column or (_first(sheet[0], DIALOGUE) if args.extract_profile else "")
    if args.dialogue_column and not args.extract_profile:
        raise BadInput("--dialogue-column is read by --extract-profile alone: add it")
    rows, rejected = usable_rows(args.input, sheet, question, args.tenant, dialogue)
    if not rows:
        raise BadInput(f"{args.input}: none of {len(sheet)} rows can be asked; row {rejected[0]['row']}: {rejected[0]['reason']}")
    tables.check_cells(args.output, rows)
    return teachers.pilot(rows, args.limit), rejected, len(rows), dialogue


def _check_batch(args: argparse.Namespace) -> None:
    """Raise BadInput for options that batch mode has no place for."""
    if args.extract_profile:
        raise BadInput("--extract-profile changes the requests that a batch holds: fill the profiles in without a batch, or leave it out")
    if args.compare_with:
        raise BadInput(
            "--compare-with asks a second teacher, and a batch has one: write a batch for each, with OVERTAKE_TEACHER_* set to it"
        )


def _teachers(args: argparse.Namespace) -> list[Teacher]:
    teachers_asked = [teachers.teacher(args.concurrency)]
    if args.compare_with:
        second = compare_endpoint(args.compare_with, teachers_asked[0].endpoint)
        teachers_asked.append(Teacher(second, chat.chat_gateway("compared teacher", args.concurrency)))
    return teachers_asked


def _prompt_parts(row: Row) -> tuple[str, str, str, str]:
    return row["tenant_id"], row["original_query"], row["user_profile"], row["history_summary"]


def _answered(row: Row, result: Ok) -> Row:
    return {**row, "rewritten_query": result.value["rewrite"], "teacher_model": result.value["model"]}


def _write_comparison(output: Path, rows: Sequence[Row], teachers: Sequence[Teacher]) -> str:
    path = output.with_name(f"{output.stem}.compare{output.suffix}")
    table = []
    for row, first, second in zip(rows, *(teacher.results for teacher in teachers), strict=True):
        both = {name: row[name] for name in ("query_id", "original_query", "user_profile", "history_summary", "tenant_id")}
        for name, result in (("", first), ("compare_", second)):
            both[f"{name}rewritten_query"] = result.value["rewrite"] if isinstance(result, Ok) else ""
            both[f"{name}teacher_model"] = result.value["model"] if isinstance(result, Ok) else ""
            usd = result.value.get("usd") if isinstance(result, Ok) else None
            both[f"{name}teacher_usd"] = "" if usd is None else usd
        table.append(both)
    tables.write_rows(path, table)
    return f", comparison: {path} (tools/validate.py says which teacher finds more)"


def _teacher_words(teacher: Teacher, rows: Sequence[Row], whole: int) -> str:
    """What this teacher's rewrites cost, whether they were paid now or earlier, and what the whole sheet would."""
    answers = teacher.answers
    pairs = [(row, result.value) for row, result in zip(rows, teacher.results, strict=True) if isinstance(result, Ok)]
    copies = sum(is_copy(row["original_query"], value["rewrite"]) for row, value in pairs)
    tokens = sum(sum((value["usage"] or {}).values()) for value in answers)
    length = sum(len(value["rewrite"]) for value in answers) / max(len(answers), 1)
    usd = sum(value["usd"] or 0.0 for value in answers)
    return (
        f"{teacher.endpoint.model}: {len(rows)} calls, {len(rows) - len(answers)} failed, {copies} copies, mean length {length:.1f}, "
        f"{tokens:,} tokens, {teacher.usd(usd)}{teachers.forecast(teacher.answers, len(rows), whole)}"
    )


def _first(row: dict[str, str], names: Sequence[str]) -> str:
    return next((name for name in names if name in row), "")
