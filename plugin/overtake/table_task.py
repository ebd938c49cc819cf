"""A task whose rows are the lines of a table: all but its prompt and its measure (generate, convert, evaluate, ask, attacks)."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from overtake import cli, generation
from overtake.data import tables
from overtake.data.cells import no_text
from overtake.data.splits import split
from overtake.data.tables import BadInput
from overtake.doctor.attacks import common
from overtake.evaluation.asking import Asking
from overtake.reading.tags import split_think
from overtake.remote import chat
from overtake.remote.gateway import Ok
from overtake.task import THINKING_COLUMN, Attacks, Decoding, Evaluation, Messages, Metric, Reward, Row, Task

R = TypeVar("R")
TEACHER = "teacher_output"
"""The column that holds what the teacher wrote for a row."""


def table_task(
    name: str,
    row: type[R],
    *,
    messages: Callable[[R], Messages],
    measure: Callable[[str, R], Mapping[str, float]],
    honest: Callable[[R], str],
    rewards: Sequence[Reward],
    metrics: Sequence[Metric],
    decoding: Decoding,
    tricks: Callable[[R, R], dict[str, str]] | None = None,
    texts: Sequence[str] = (),
    **more: Any,
) -> Task:
    """A Task of a row class: a dataclass of text fields, of which the first names a row and the second is what is asked.

    A table's columns are called as the fields; in training files they are `<name>_<field>`, and so the rewards read them. `messages` is
    the prompt, `measure` gives each metric of an answer, from 0 to 1; `honest` is the answer that must earn most, `tricks` are those that
    must not (by default the doctor's common ones). `texts`: the fields that the prompt reads, by default the second. `more`: other
    fields of Task. A row class may raise ValueError for a row that cannot be used.
    """
    names = [field.name for field in fields(row)]  # type: ignore[arg-type]  # a dataclass, as said

    def of(cells: Mapping[str, str]) -> R:
        return row(**{name_of_cell: cells[name_of_cell] for name_of_cell in names})

    def measured(
        candidate: str, answers: Mapping[str, str | None], rows: Sequence[Row], _: argparse.Namespace
    ) -> dict[str, dict[str, Any]]:
        answered = {cells[names[0]]: (cells, answers[cells[names[0]]]) for cells in rows}
        return {key: dict(measure(text, of(cells))) for key, (cells, text) in answered.items() if text is not None}

    def plain(cells: Row) -> R:
        return of({column: cells[f"{name}_{column}"] for column in names})

    def attacked(cells: Row, other: Row) -> dict[str, str]:
        if tricks:
            return tricks(plain(cells), plain(other))
        return common(cells[f"{name}_{names[1]}"], honest(plain(cells)), honest(plain(other)))

    def rows_of(path: Path) -> list[Row]:
        return [{f"{name}_{field}": cell for field, cell in cells.items()} for cells in read(path, name, names)]

    return Task(
        name=name,
        row=row,
        rewards=tuple(rewards),
        metrics=tuple(metrics),
        decoding=decoding,
        evaluation=Evaluation(
            id=names[0],
            answer="answer",
            texts=tuple(texts or names[1:2]),
            shown={column: column for column in names},
            read=lambda args: _checked(args.test, read(args.test, name, names), of),
            messages=lambda cells: messages(of({column: "" for column in names} | cells)),
            measure=measured,
        ),
        attacks=Attacks(
            id=f"{name}_{names[0]}",
            question=f"{name}_{names[1]}",
            rows=rows_of,
            honest=lambda cells: honest(plain(cells)),
            tricks=attacked,
            least=1.0,
        ),
        **{
            "recipe": "grpo_rag",
            "stages": {"generate": Generate, "convert": Convert, "evaluate": Evaluate, "ask": Asking},
            **more,
        },
    )


def read(path: Path, name: str, names: Sequence[str]) -> list[Row]:
    """A table's columns of these names, which training files call <name>_<field>. Raises BadInput for a column that is missing."""
    cells = tables.read_rows(path)
    of = {part: next((column for column in (part, f"{name}_{part}") if column in cells[0]), "") for part in names}
    if missing := [part for part, column in of.items() if not column]:
        raise BadInput(f"{path}: no column {', '.join(missing)}; the columns there are {', '.join(cells[0])}")
    columns = {extra: extra for extra in (THINKING_COLUMN,) if extra in cells[0]}
    return [{part: row[column] for part, column in (of | columns).items()} for row in cells]


def _checked(path: Path, rows: list[Row], of: Callable[[Row], Any]) -> list[Row]:
    """The rows, each usable and with a name of its own. Raises BadInput naming the first that is not."""
    numbers: dict[str, int] = {}
    for index, row in enumerate(rows):
        key, number = next(iter(row.values())), tables.row_number(path, index)
        reason = _rejection(row, of) or (f"{key!r} stands already in row {numbers[key]}" if key in numbers else None)
        if reason:
            raise BadInput(f"{path}: row {number}: {reason}: correct it or delete the row")
        numbers[key] = number
    return rows


def _rejection(row: Row, of: Callable[[Row], Any]) -> str | None:
    key, question = list(row.values())[:2]
    if not key.strip() or not question.strip():
        return f"{' or '.join(list(row)[:2])} is blank"
    if why := no_text(question):
        return f"{list(row)[1]}: {why}"
    try:
        of(row)
    except ValueError as error:
        return str(error)
    return None


class _Stage:
    """What the stages share: the task, and the reading of its rows."""

    def __init__(self, task: Task) -> None:
        self.task = task
        assert isinstance(task.row, type)
        self.row = task.row
        self.names = [field.name for field in fields(task.row)]

    def made(self, cells: Row) -> Any:
        """The row in a table's cells. Raises ValueError for one that cannot be used."""
        return self.row(**{column: cells[column] for column in self.names})

    def usable(self, path: Path) -> tuple[list[Row], list[Row]]:
        """(rows that can be used, those that cannot with the reason)."""
        parts: tuple[list[Row], list[Row]] = ([], [])
        for index, row in enumerate(read(path, self.task.name, self.names)):
            reason = _rejection(row, self.made)
            parts[bool(reason)].append({**row, "row": str(tables.row_number(path, index)), "reason": reason} if reason else row)
        return parts


class Generate(_Stage):
    """The teacher writes an answer to each row, with the prompt of training."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of the task."""
        parser.add_argument("input", type=Path, help=f"table with the columns {', '.join(self.names)}")
        parser.add_argument("output", type=Path, help=f"the rows with what the teacher wrote, {TEACHER}")
        generation.add_arguments(parser, max_tokens=self.task.decoding.limit, temperature=self.task.decoding.temperature)

    def work(self, args: argparse.Namespace) -> int:
        """Check everything, ask, write; returns the exit code."""
        generation.check_files(args)
        whole, rejected = self.usable(args.input)
        if not whole:
            raise BadInput(f"{args.input}: no row can be asked; row {rejected[0]['row']}: {rejected[0]['reason']}")
        rows, teacher = generation.pilot(whole, args.limit), generation.teacher(args.concurrency)
        thinking, ask = self.task.decoding.thinking != "off", self.task.evaluation.messages
        teacher.calls = [chat.chat_call(teacher.endpoint, ask(row), args.max_tokens, args.temperature, thinking=thinking) for row in rows]
        if args.batch_write:
            return generation.write_batch(args, f"{len(rows)} rows to answer", teacher.calls, rejected)
        generation.answer(teacher, args, teacher.endpoint.model)
        answered = list(zip(rows, teacher.results, strict=True))
        lines = [{**row, TEACHER: it.value["text"], "teacher_model": it.value["model"]} for row, it in answered if isinstance(it, Ok)]
        failed = [{self.names[0]: row[self.names[0]], "reason": it.reason} for row, it in answered if not isinstance(it, Ok)]
        if lines:
            tables.write_rows(args.output, lines)
        lists = generation.write_lists(args.output, rejected, failed)
        print(f"{len(lines)} rows answered, {len(rejected)} rejected, {len(failed)} failed; {teacher.paid}; {args.output} written{lists}")
        return generation.exit_code(args, failed)


class Convert(_Stage):
    """Conversion of answered rows: train.jsonl and val.jsonl for SFT, rl_train.jsonl and rl_val.jsonl for RL, test.jsonl held out.

    All rows of one question are on one side. SFT imitates only answers of the teacher that earn --least of the task's first metric.
    Where the task thinks as its rows say, a row thinks if the teacher did.
    """

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of the task."""
        parser.add_argument("input", type=Path, help="what tools/generate.py wrote")
        parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write")
        parser.add_argument("--seed", type=int, default=20, help="of the split, 8 : 1 : 1 (default %(default)s)")
        metric = self.task.main or self.task.metrics[0].name
        parser.add_argument("--least", type=float, default=0.5, help=f"least {metric} of an answer to imitate (default %(default)s)")

    def work(self, args: argparse.Namespace) -> int:
        """Split, filter, write; 0 done."""
        cli.check_folder(args.out_dir)
        table = tables.read_rows(args.input, required=[TEACHER])
        rows = _checked(args.input, read(args.input, self.task.name, self.names), self.made)
        sides = split([row[self.names[1]] for row in rows], {"train": 0.8, "val": 0.1, "test": 0.1}, args.seed)
        answers = {row[self.names[0]]: cells[TEACHER] for row, cells in zip(rows, table, strict=True)}
        scores = self.task.evaluation.measure("teacher", answers, rows, args)
        metric = self.task.main or self.task.metrics[0].name
        files: dict[str, list[dict[str, Any]]] = {f"{kind}{side}.jsonl": [] for side in ("train", "val") for kind in ("", "rl_")}
        files["test.jsonl"] = []
        dropped = 0
        for row, side in zip(rows, sides, strict=True):
            messages, answer = self.task.evaluation.messages(row), answers[row[self.names[0]]]
            says = {THINKING_COLUMN: {"enable_thinking": bool(split_think(answer)[0])}} if self.task.decoding.thinking == "rows" else {}
            columns = {f"{self.task.name}_{name}": row[name] for name in self.names} | says
            files["test.jsonl" if side == "test" else f"rl_{side}.jsonl"].append({"messages": messages, **columns})
            if side != "test" and answer and scores[row[self.names[0]]][metric] >= args.least:
                files[f"{side}.jsonl"].append({"messages": [*messages, {"role": "assistant", "content": answer}], **says})
            else:
                dropped += side != "test"
        if empty := [name for name, lines in files.items() if not lines]:
            raise BadInput(f"{args.input}: {', '.join(empty)} would be empty: give more rows than {len(rows)}, or a lower --least")
        cli.write_folder(args.out_dir, files)
        counts = cli.counted({name: len(lines) for name, lines in files.items()})
        print(f"{counts}; {dropped} answers below {args.least:g} {metric} are not imitated; {args.out_dir} written")
        return 0


class Evaluate(_Stage):
    """All metrics of the task on its held-out rows."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of the task: none."""
        parser.set_defaults(judge=False)
