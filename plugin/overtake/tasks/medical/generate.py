"""Medical: let a teacher write rubrics for the rows of a sheet, from question, reference and rule book, for a doctor to edit.

    python tools/generate.py questions.xlsx with_rubrics.xlsx --task medical --rubrics
    python tools/rules.py --check with_rubrics.xlsx           # after the doctor: what contradicts, what cannot be judged

A row of OUTPUT is the row of INPUT, all its columns kept, and `rubrics` (one item a line, its points in brackets), `rubrics_model`. A row
that has rubrics already, in INPUT or in an OUTPUT that is there, is not asked about: what a doctor edited there stays. An item that holds
two demands is split, and its points with it.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from overtake import generation
from overtake.data import outputs, tables
from overtake.data.tables import BadInput
from overtake.generation import Row
from overtake.reading.verdicts import Text, Verdict, read_object
from overtake.remote import chat, judge
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical import rubric_check, rubrics
from overtake.tasks.medical.prompts import prompt
from overtake.tasks.medical.rows import COLUMNS, Item
from overtake.tasks.medical.rubrics import Criterion

RUBRICS, MODEL = "rubrics", "rubrics_model"
_LEAST, _MOST = 2, 20
"""Items that a teacher may write for a row."""


class _Item(Verdict):
    text: Annotated[Text, Field(alias="要求", min_length=2)]
    points: Annotated[int, Field(alias="分值", ge=-10, le=10)]


class _Items(Verdict):
    items: Annotated[list[_Item], Field(alias="评分项", min_length=_LEAST, max_length=_MOST)]


def read_rubrics(text: str) -> dict[str, Any]:
    """Read {"rubrics": a cell of a sheet} as prompts/write_rubrics.txt asks; what holds two demands is split.

    >>> read_rubrics('{"评分项": [{"要求": "让患者立即拨打120", "分值": 5}, {"要求": "让患者先观察几天再说", "分值": -5}]}')["rubrics"]
    '[+5] 让患者立即拨打120\\n[-5] 让患者先观察几天再说'

    Raises ValueError for anything else, and for items that contradict each other or that no answer can be held against.
    """
    items = [Criterion(item.text, float(item.points)) for item in read_object(text, _Items).items]
    written = rubrics.written([part for item in items for part in rubric_check.split(item)])
    criteria = rubrics.read(written)
    if wrong := rubric_check.faults(criteria):
        raise ValueError(f"item {wrong[0].number}, {criteria[wrong[0].number - 1].text!r}: {wrong[0].why}")
    return {"rubrics": rubrics.written(criteria)}


def messages(item: Item) -> list[dict[str, str]]:
    """Messages that show a teacher question, reference, and the safety rules of the book that apply to the row."""
    fields = {"患者问题": item.asked, "参考答案": item.answer, "规则书": _book(item)}
    return judge.in_lines(prompt("write_rubrics"), {name: text for name, text in fields.items() if text})


def _book(item: Item) -> str:
    book = medical_book.shipped()
    risks = book.risks.of(item.asked) + [item.risk] * bool(item.risk)
    kinds = ((book.requires, "要求"), (book.forbids, "禁止"))
    told = (f"{head}：{rule.zh}" for rules, head in kinds for rule in rules if rule.safety and rule.applies(risks))
    return " ".join(told)


def usable(path: Path, sheet: Sequence[dict[str, str]]) -> tuple[list[tuple[Row, Item]], list[Row]]:
    """(rows with what is read of them, rows that cannot be asked about with the reason). Raises BadInput for rubrics out of form."""
    good: list[tuple[Row, Item]] = []
    rejected: list[Row] = []
    first_of: dict[str, int] = {}
    for index, cells in enumerate(sheet):
        number = tables.row_number(path, index)
        try:
            item = medical.read_row(cells)
        except ValueError as error:
            raise BadInput(f"{path}: row {number}, {error}") from None
        if isinstance(item, Item) and item.med_id in first_of:
            item = f"the same question stands in row {first_of[item.med_id]}"
        if isinstance(item, str):
            rejected.append(
                {"row": number, "reason": item, "question": next((cells[name] for name in COLUMNS["question"] if name in cells), "")[:200]}
            )
        else:
            first_of[item.med_id] = number
            good.append((dict(cells), item))
    return good, rejected


def edited(output: Path) -> dict[str, tuple[str, str]]:
    """By med_id the rubrics, and who wrote them, of an output that is there. Raises BadInput for what is no rubrics."""
    if not output.is_file():
        return {}
    with outputs.separate_run():  # it is read to be written again, and is no input
        sheet = tables.read_rows(output)
    rows = [(row, item) for row, item in usable(output, sheet)[0] if item.criteria]
    return {item.med_id: (rubrics.written(item.criteria), row.get(MODEL, "")) for row, item in rows}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("input", type=Path, help="sheet of questions, with reference answers where there are any")
    parser.add_argument("output", type=Path, help="the same rows with rubrics")
    parser.add_argument("--rubrics", action="store_true", required=True, help="what is written: rubrics of each row")
    generation.add_arguments(parser, max_tokens=1200, temperature=0.3)


def work(args: argparse.Namespace) -> int:
    """Check everything, ask, write; returns the exit code."""
    started = time.monotonic()
    kept = edited(args.output)
    generation.check_files(args)
    sheet = tables.read_rows(args.input)
    named = next((name for name in sheet[0] if name.strip().casefold() in COLUMNS["rubrics"]), RUBRICS)
    whole, rejected = usable(args.input, sheet)
    if not whole:
        raise BadInput(f"{args.input}: none of {len(sheet)} rows can be asked about; row {rejected[0]['row']}: {rejected[0]['reason']}")
    rows = generation.pilot(whole, args.limit)
    lacking = [item for _, item in rows if not item.criteria and item.med_id not in kept]
    teacher = generation.teacher(args.concurrency)
    teacher.calls = [
        chat.chat_call(teacher.endpoint, messages(item), args.max_tokens, args.temperature, parse=read_rubrics, form="rubrics", tries=2)
        for item in lacking
    ]
    if args.batch_write:
        return generation.write_batch(args, f"{len(lacking)} rows to write rubrics for", teacher.calls, rejected)
    generation.answer(teacher, args, teacher.endpoint.model)
    results = {item.med_id: result for item, result in zip(lacking, teacher.results, strict=True)}
    kept |= {med_id: (result.value["rubrics"], result.value["model"]) for med_id, result in results.items() if isinstance(result, Ok)}
    failed = [
        {"question": item.asked[:200], "reason": result.reason} for item in lacking if isinstance(result := results[item.med_id], Failed)
    ]
    written = []
    for row, item in rows:
        if item.criteria:
            written.append(row | {named: rubrics.written(item.criteria), MODEL: row.get(MODEL, "")})
        elif item.med_id in kept:
            written.append(row | dict(zip((named, MODEL), kept[item.med_id], strict=True)))
    if written:
        tables.write_rows(args.output, written)
    files = generation.write_lists(args.output, rejected, failed)
    forecast = generation.forecast(teacher.answers, len(rows), len(whole)) if len(rows) < len(whole) else ""
    print(
        f"{len(sheet)} rows in, {len(lacking) - len(failed)} got rubrics ({teacher.cached} from cache), "
        f"{len(rows) - len(lacking)} had theirs, {len(rejected)} rejected, {len(failed)} failed; {teacher.paid}{forecast}, "
        f"{time.monotonic() - started:.0f} s; {args.output if written else 'no row has rubrics, nothing'} written{files}"
    )
    return generation.exit_code(args, failed)
