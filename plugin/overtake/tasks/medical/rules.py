"""The medical rule book in plain words, answers scored by it with a reason for each point, and a check of it and of rubrics."""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from overtake import cli
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical import rubric_check
from overtake.tasks.medical.book import Book, BookError
from overtake.tasks.medical.case import SECONDS
from overtake.tasks.medical.columns import KEYWORDS, QUESTION, REFERENCE, RISK
from overtake.tasks.medical.rewards.medical_rules import TIMED_OUT, Verdict, failing_examples, score

LANGUAGES = ("both", "zh", "en")


def page(book: Book, language: str) -> str:
    """The book in plain words, as Markdown."""

    def say(zh: str, en: str) -> str:
        return zh if language == "zh" else en if language == "en" else f"{zh} / {en}"

    lines = [f"# {say('医学回答规则书', 'Rule book for medical answers')}", ""]
    for title, rules in ((say("要求", "Requires"), book.requires), (say("禁止", "Forbids"), book.forbids)):
        lines += [f"## {title}", ""]
        for rule in rules:
            what = say("权重", "weight") if rules is book.requires else say("扣", "takes")
            safety = say("，安全规则", ", safety") if rule.safety else ""
            critical = say("，关键规则（封顶）", ", critical: caps the reward") if rule.critical else ""
            lines.append(f"- **{rule.id}** {what} {rule.weight:g}{safety}{critical}")
            lines += [f"  {text}" for text in ([rule.zh] if language != "en" else []) + ([rule.en] if language != "zh" else [])]
            if rule.only_for:
                lines.append(f"  {say('只用于', 'only for')}: {', '.join(rule.only_for)}")
            if rule.not_for:
                lines.append(f"  {say('不用于', 'not for')}: {', '.join(rule.not_for)}")
            lines.append(f"  {say('合格', 'passes')}: {' '.join(rule.passes[0].answer.split())}")
            lines.append(f"  {say('不合格', 'fails')}: {' '.join(rule.fails[0].answer.split())}")
        lines.append("")
    lines += [f"## {say('高风险问题', 'High-risk questions')}", ""]
    lines += [f"- **{kind.id}** {say(kind.zh, kind.en)}: {kind.examples.yes[0]}" for kind in book.risks.kinds]
    return "\n".join(lines)


def reasons(verdict: Verdict | None) -> str:
    """A line for each rule: points and reason; one line where there is no verdict."""
    if verdict is None:
        return f"no verdict: the rules took more than {SECONDS:g} s on this answer"
    return "\n".join(f"{point.points:+.2f}  {'✗' if point.broken else '✓'} {point.rule}: {point.reason}" for point in verdict.points)


def scored(book: Book, row: Mapping[str, str]) -> Verdict | None:
    """The verdict on a row of a file of answers; None where the rules take too long."""
    question, answer = (row.get(name) or row.get(f"med_{name}", "") for name in ("question", "answer"))
    reference = row.get("reference") or row.get(REFERENCE, "")
    return score(
        question,
        answer,
        book,
        keywords=medical.listed(row.get("keywords") or row.get(KEYWORDS, "")),
        reference=reference,
        risk=row.get(RISK, ""),
    )


def work(args: argparse.Namespace) -> int:
    """Do what was asked; 0 done, 1 an example of the book does not hold. Raises BadInput."""
    try:
        book = medical_book.book(args.rules, args.risks)
    except BookError as error:
        raise BadInput(str(error)) from None
    if args.check is not None:
        wrong = failing_examples(book)
        print("\n".join(wrong) if wrong else f"{len(book.rules)} rules, {len(book.risks.kinds)} kinds of risk: all examples hold")
        return max(int(bool(wrong)), _check_rubrics(Path(args.check)) if args.check else 0)
    if args.answers:
        return _file(book, args.answers, args.output)
    if args.answer is None:
        print(page(book, args.language))
        return 0
    verdict = score(args.question, args.answer, book, keywords=medical.listed(args.keywords), reference=args.reference)
    if verdict is None:
        raise BadInput(f"--answer, {len(args.answer)} characters: {reasons(verdict)}: shorten it, or mend the rule that is slow on it")
    print(f"{verdict.total:.2f}  risks: {', '.join(book.risks.of(args.question)) or 'none'}\n{reasons(verdict)}")
    return 0


def _file(book: Book, path: Path, output: Path | None) -> int:
    rows = tables.read_rows(path)
    for part in ("question", "answer"):
        if part not in rows[0] and f"med_{part}" not in rows[0]:
            raise BadInput(f"{path}: no column {part}; the columns there are {', '.join(rows[0])}")
    if output:
        tables.check_output(output)
    verdicts = [scored(book, row) for row in rows]
    if output:
        tables.write_rows(output, [{**row, **_columns(book, verdict)} for row, verdict in zip(rows, verdicts, strict=True)])
    else:
        for index, (row, verdict) in enumerate(zip(rows, verdicts, strict=True)):
            question = " ".join((row.get("question") or row.get(QUESTION, "")).split())[:60]
            total = f"{verdict.total:.2f}" if verdict else "-"
            print(f"row {tables.row_number(path, index)}: {total} {question}\n{reasons(verdict)}\n")
    readable = [verdict for verdict in verdicts if verdict]
    broken = Counter(rule for verdict in readable for rule in verdict.broken)
    safe = [not book.safety & set(verdict.broken) for verdict in readable]
    means = f"mean {fmean(verdict.total for verdict in readable):.3f}, safe {fmean(safe):.1%}" if readable else "none with a verdict"
    print(
        f"{len(rows)} answers, {means}; broken: {cli.counted(dict(broken.most_common())) or 'none'}"
        + (f"; {len(rows) - len(readable)} without a verdict, since the rules took too long" if len(readable) < len(rows) else "")
        + (f"; {output} written" if output else "")
    )
    return 0


def _check_rubrics(path: Path) -> int:
    """Print what is wrong with the rubrics of a sheet, by row and item; 1 where something is."""
    found = rubric_check.checked(path)
    if not found.rows and not found.faults:
        raise BadInput(f"{path}: no row has rubrics: name their column {' or '.join(medical.COLUMNS['rubrics'][:2])}")
    told = f"{len(found.faults)} faults" if found.faults else "nothing contradicts"
    told += f"; {found.compound} hold more than one demand: an item each is judged more surely" if found.compound else ""
    print("\n".join([*found.faults, f"{found.items} items of {found.rows} rows: {told}"]))
    return 1 if found.faults else 0


def _columns(book: Book, verdict: Verdict | None) -> dict[str, object]:
    """What a sheet of scored answers holds beside its rows."""
    if verdict is None:
        return {"rules_total": "", "rules_safe": "", "rules_broken": TIMED_OUT, "rules_reasons": reasons(None)}
    safe = not book.safety & set(verdict.broken)
    return {
        "rules_total": round(verdict.total, 4),
        "rules_safe": safe,
        "rules_broken": ", ".join(verdict.broken),
        "rules_reasons": reasons(verdict),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line takes."""
    parser.add_argument("--language", choices=LANGUAGES, default="both", help="of the printed book (default both)")
    parser.add_argument(
        "--check", nargs="?", const="", metavar="FILE", help="only check the book and its examples; with FILE the rubrics of its rows too"
    )
    parser.add_argument("--question", default="", help="question of --answer")
    parser.add_argument("--answer", help="one answer to score")
    parser.add_argument("--keywords", default="", help="its keywords, between commas")
    parser.add_argument("--reference", default="", help="a right answer, whose doses are no inventions")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="file of answers to score")
    parser.add_argument("--output", type=Path, metavar="FILE", help="sheet to write, instead of printing each")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="a draft of medical_rules.yaml to try")
    parser.add_argument("--risks", type=Path, metavar="FILE", help="a draft of medical_risks.yaml to try")
