"""A list for a doctor: the riskiest answers, blind and shuffled, as a sheet and a page; read back and compared with rules and teacher."""

import argparse
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from overtake import cli
from overtake.data import tables
from overtake.data.splits import shuffled
from overtake.data.tables import BadInput
from overtake.evaluation.agreement import Pair, agreement, confusion
from overtake.tasks.medical.columns import ID

SHEET, PAGE, KEY, RESULT = "review.xlsx", "review.html", "review_key.jsonl", "review_result.json"
NUMBER, QUESTION, ANSWER, VERDICT, NOTE = "编号 / No.", "问题 / Question", "回答 / Answer", "结论 / Verdict", "备注 / Note"
RUBRICS = "评分项 / Rubric"
"""What the row's answers are judged by; only where a row has any."""
CHOICES = {"安全 safe": "safe", "不安全 unsafe": "unsafe", "不确定 unsure": "unsure"}
"""What the drop-down offers -> the verdict."""
_SAID = {word.casefold(): verdict for choice, verdict in CHOICES.items() for word in (choice, *choice.split())}
_MEANS = {"safe": "correct", "unsafe": "incorrect"}
"""Verdict -> what stands for it in the result."""
_WIDTHS = {NUMBER: 8, QUESTION: 40, ANSWER: 80, RUBRICS: 50, VERDICT: 16, NOTE: 40}
_TEMPLATE = """<!doctype html>
<html lang="zh"><head><meta charset="utf-8"><title>医学回答复核 / Review of medical answers</title>
<style>
body{font:16px/1.6 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
section{border:1px solid #bbb;border-radius:.5rem;padding:1rem;margin:1rem 0}
p{white-space:pre-wrap;margin:.3rem 0 1rem} label{margin-right:1.5rem}
input[type=text]{width:100%;box-sizing:border-box} h2{font-size:1rem;margin:0}
</style></head><body>
<h1>医学回答复核 / Review of medical answers</h1>
<p>共 {{ rows|length }} 条，顺序已打乱，不显示由谁回答。请对每条给出结论，最后点“保存”，把得到的 CSV 发回。
{{ rows|length }} answers in shuffled order, without the name of who wrote them.
Give a verdict on each, press Save and send back the CSV.</p>
{% for row in rows %}<section data-number="{{ row[number] }}">
<h2>{{ number }} {{ row[number] }} · {{ question }}</h2><p class="question">{{ row[question] }}</p>
<h2>{{ answer }}</h2><p class="answer">{{ row[answer] }}</p>
{% if row[rubrics] %}<h2>{{ rubrics }}</h2><p>{{ row[rubrics] }}</p>
{% endif %}<h2>{{ verdict }}</h2>
{% for choice in choices %}<label><input type="radio" name="v{{ row[number] }}" value="{{ choice }}"> {{ choice }}</label>
{% endfor %}
<h2>{{ note }}</h2><input type="text">
</section>
{% endfor %}<button onclick="save()">保存 / Save</button>
<script>
function save() {
  const quote = text => '"' + (/^'*[=+\\-@]/.test(text) ? "'" : "") + text.replaceAll('"', '""') + '"';
  const lines = [{{ saved|tojson }}.map(quote).join(",")];
  for (const one of document.querySelectorAll("section")) {
    const chosen = one.querySelector("input[type=radio]:checked");
    lines.push([one.dataset.number, one.querySelector(".question").textContent, one.querySelector(".answer").textContent,
      chosen ? chosen.value : "", one.querySelector("input[type=text]").value].map(quote).join(","));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\\ufeff" + lines.join("\\r\\n")], {type: "text/csv"}));
  link.download = "reviewed.csv";
  link.click();
}
</script></body></html>
"""

Row = dict[str, Any]


def riskiest(folder: Path, limit: int, seed: int) -> list[Row]:
    """The key's rows, shuffled and numbered: all systems' answers to the `limit` riskiest questions, the same words only once.

    A question is the riskier, the less safe the least safe of its answers is (a broken safety rule first, then a kind of risk, then the
    teacher's score and the book's). Raises BadInput for a folder without the details that tools/evaluate.py --task medical writes.
    """
    answers: dict[str, list[Row]] = {}
    files = sorted(folder.glob("eval_details_*.jsonl"))
    if not files:
        raise BadInput(f"{folder}: no eval_details_*.jsonl: name the folder that tools/evaluate.py --task medical wrote")
    for file in files:
        for number, row in enumerate(tables.read_objects(file), 1):
            if row and (ID not in row or "risk" not in row):
                raise BadInput(f"{file}: line {number} is no medical answer: name the folder that tools/evaluate.py --task medical wrote")
            if row and str(row.get("answer") or "").strip() and "rules" in row:
                name = file.stem.removeprefix("eval_details_")
                answers.setdefault(row[ID], []).append(row | {"system": name})
    if not answers:
        raise BadInput(f"{folder}: not one answer in {len(files)} files: nothing to review")

    def danger(med_id: str) -> tuple[float, bool, float, float, str]:
        measured = answers[med_id]
        return (
            min(row["safe"] for row in measured),
            not measured[0]["risk"],
            min(row.get("judge", 1.0) for row in measured),
            min(row["rules"] for row in measured),
            med_id,
        )

    listed: list[Row] = []
    for med_id in sorted(answers, key=danger)[:limit]:
        by_text: dict[str, Row] = {}
        for row in answers[med_id]:
            items = row.get("judge_items")
            entry = by_text.setdefault(
                row["answer"].strip(),
                {
                    ID: med_id,
                    "question": row["question"],
                    "answer": row["answer"].strip(),
                    "risk": row["risk"],
                    "rules": "safe" if row["safe"] else "unsafe",
                    "rubrics": row.get("rubrics") or "",
                    # By rubrics of its own a row is judged for what it says, and nothing of that is safety as a whole.
                    "teacher": ("safe" if all(items["safety"]) else "unsafe") if items and "safety" in items else "",
                    "systems": [],
                },
            )
            entry["systems"].append(row["system"])
        listed += by_text.values()
    return [{"number": number, **row} for number, row in enumerate(shuffled(listed, seed), 1)]


def write(folder: Path, key: Sequence[Row]) -> None:
    """The sheet and the page for the doctor, and the key that tells which answer is whose."""
    shown = [
        {NUMBER: row["number"], QUESTION: row["question"], ANSWER: row["answer"], RUBRICS: row["rubrics"], VERDICT: "", NOTE: ""}
        for row in key
    ]
    tables.check_cells(folder / SHEET, shown)
    files = {folder / SHEET: _sheet(shown), folder / PAGE: page(shown).encode(), folder / KEY: tables.json_lines(key)}
    tables.write_aside(files)


def _sheet(rows: Sequence[Row]) -> bytes:
    import openpyxl
    from openpyxl.styles import Alignment
    from openpyxl.worksheet.datavalidation import DataValidation

    widths = {name: width for name, width in _WIDTHS.items() if name != RUBRICS or any(row[name] for row in rows)}
    letters = dict(zip(widths, "ABCDEF", strict=False))
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.title = "复核 review"
    for name, width in widths.items():
        sheet.column_dimensions[letters[name]].width = width
    sheet.freeze_panes = "A2"
    menu = DataValidation(type="list", formula1=f'"{",".join(CHOICES)}"', allow_blank=True, showErrorMessage=True)
    menu.add(f"{letters[VERDICT]}2:{letters[VERDICT]}{len(rows) + 1}")
    sheet.add_data_validation(menu)
    sheet.append([tables.excel_cell(sheet, name) for name in widths])
    for row in rows:
        cells = [tables.excel_cell(sheet, row[name]) for name in widths]
        for cell in cells[1:]:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
        sheet.append(cells)
    memory = io.BytesIO()
    book.save(memory)
    return memory.getvalue()


def page(rows: Sequence[Row]) -> str:
    """The same as one page that needs no other file; its Save gives a CSV that `read` takes."""
    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE)
    heads = {"number": NUMBER, "question": QUESTION, "answer": ANSWER, "rubrics": RUBRICS, "verdict": VERDICT, "note": NOTE}
    saved = [name for name in _WIDTHS if name != RUBRICS]
    return template.render(rows=rows, choices=list(CHOICES), saved=saved, **heads)


def read(reviewed: Path, key: Path) -> list[Row]:
    """The key's rows with the doctor's verdict ("" where there is none) and note.

    Raises BadInput naming the row that is not of this list and the verdict that is none.
    """
    if not key.is_file():
        raise BadInput(f"{key}: no such file: it was written with the list; name it with --key")
    key_rows = {str(row["number"]): row for row in tables.read_objects(key) if row}
    verdicts: dict[str, Row] = {}
    for index, cells in enumerate(tables.read_rows(reviewed, required=(NUMBER, ANSWER, VERDICT))):
        if not any(cells.values()):
            continue
        where = f"{reviewed}: row {tables.row_number(reviewed, index)}"
        number, verdict = cells[NUMBER].strip(), cells[VERDICT].strip()
        if number not in key_rows:
            raise BadInput(f"{where}: {NUMBER} {number!r} is not in {key}: give the key that was written with this list")
        if number in verdicts:
            raise BadInput(f"{where}: {NUMBER} {number!r} stands twice: delete one of the two rows")
        if "".join(cells[ANSWER].split()) != "".join(key_rows[number]["answer"].split()):
            raise BadInput(f"{where}: the answer is not that of number {number} in {key}: give the key that was written with this list")
        if verdict and verdict.casefold() not in _SAID:
            raise BadInput(f"{where}: {VERDICT} is {verdict[:40]!r}: write one of {', '.join(CHOICES)}, or leave it blank")
        verdicts[number] = key_rows[number] | {"doctor": _SAID.get(verdict.casefold(), ""), "note": cells.get(NOTE, "").strip()}
    if not any(row["doctor"] for row in verdicts.values()):
        raise BadInput(f"{reviewed}: no row has a verdict: fill the column {VERDICT}")
    return list(verdicts.values())


def compared(rows: Sequence[Row]) -> dict[str, Any]:
    """Agreement of rules and teacher with the doctor (share and Cohen's kappa, intervals over questions), and counts for each system.

    What the doctor was unsure of, or left blank, is counted and in no agreement.
    """
    agreed = {}
    for who in ("rules", "teacher"):
        pairs = [
            Pair(row["question"] or str(row["number"]), _MEANS[row["doctor"]], _MEANS[row[who]])
            for row in rows
            if {row["doctor"], row[who]} <= _MEANS.keys()
        ]
        measures = agreement(pairs) | {"confusion": confusion(pairs, ("correct", "incorrect", "none"))} if pairs else None
        agreed[who] = measures and {name: measures[name] for name in ("rows", "questions", "accuracy", "kappa", "confusion")}

    def counts(some: Sequence[Row], who: str) -> dict[str, int]:
        return dict(Counter(row[who] or "blank" for row in some))

    systems = {}
    for name in sorted({name for row in rows for name in row["systems"]}):
        own = [row for row in rows if name in row["systems"]]
        systems[name] = {who: counts(own, who) for who in ("doctor", "rules", "teacher")}
    return {"rows": len(rows), "doctor": counts(rows, "doctor"), "agreement": agreed, "systems": systems}


def words(comparison: dict[str, Any]) -> str:
    """The comparison as text."""

    def interval(value: dict[str, float] | None) -> str:
        return "not defined" if value is None else f"{value['mean']:.2f} [{value['low']:.2f},{value['high']:.2f}]"

    def counts(value: dict[str, int]) -> str:
        return ", ".join(f"{value[name]} {name}" for name in (*_MEANS, "unsure", "blank") if name in value)

    lines = [f"{comparison['rows']} answers, the doctor says: {counts(comparison['doctor'])}"]
    for who, agreement_of in comparison["agreement"].items():
        lines.append(
            f"{who} and doctor on {agreement_of['rows']} answers to {agreement_of['questions']} questions: "
            f"agreement {interval(agreement_of['accuracy'])}, kappa {interval(agreement_of['kappa'])}"
            if agreement_of
            else f"{who} and doctor: no answer that both have a verdict on"
        )
    for name, by_judge in comparison["systems"].items():
        lines.append(f"{name}: " + "; ".join(f"{who} {counts(agreement_of)}" for who, agreement_of in by_judge.items()))
    return "\n".join(lines)


def save(path: Path, comparison: dict[str, Any], rows: Sequence[Row]) -> None:
    """The comparison and what was said of each answer, as JSON."""
    tables.write_aside({path: json.dumps(comparison | {"answers": list(rows)}, ensure_ascii=False, indent=1).encode()})


def work(args: argparse.Namespace) -> int:
    """Write the list, or read it back and compare; 0 done. Raises BadInput."""
    if args.read:
        key = args.key or args.read.with_name(KEY)
        rows = read(args.read, key)
        comparison = compared(rows)
        save(key.with_name(RESULT), comparison, rows)
        print(f"{words(comparison)}\n{key.with_name(RESULT)} written")
        return 0
    if not args.folder or not args.out:
        raise BadInput("nothing to do: name the folder of an evaluation and one for the list, or --read a reviewed one")
    if (args.out / KEY).exists():
        raise BadInput(f"{args.out} holds a list already, maybe a doctor's: name another folder, or remove it")
    key_rows = riskiest(args.folder, args.limit, args.seed)
    write(args.out, key_rows)
    questions = len({row[ID] for row in key_rows})
    print(f"{len(key_rows)} answers to {questions} questions: {args.out / SHEET}, {PAGE}; keep {KEY} back")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("folder", type=Path, nargs="?", metavar="EVAL", help="folder with eval_details_*.jsonl")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder for the list")
    parser.add_argument("--limit", type=cli.positive, default=20, help="questions in the list (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the shuffling (default %(default)s)")
    parser.add_argument("--read", type=Path, metavar="FILE", help="the reviewed sheet, .xlsx or .csv")
    parser.add_argument("--key", type=Path, metavar="FILE", help=f"default: {KEY} beside the sheet")
