"""Comparing systems on the same held-out rows, whatever the task: their answers, means with intervals, paired differences, the files."""

import argparse
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overtake import settings, text_table, thinking
from overtake.data.tables import BadInput, json_lines, read_rows, write_aside
from overtake.evaluation import costs, preferences, promises, students
from overtake.evaluation.costs import Cost
from overtake.evaluation.examples import file_part, main_measure
from overtake.evaluation.statistics import Interval, bootstrap_mean, holm, paired_difference, paired_p
from overtake.evaluation.summaries import describe
from overtake.task import Row, Task

Answers = Mapping[str, str | None]
"""By row id: "" where the system gave none, None where its service did not answer."""
Scores = dict[str, dict[str, Any]]
"""By row id: each metric that could be measured, and words for the details."""


SIGNIFICANT = 0.05
"""Of a p after Holm's correction."""
_TIE = 1e-9
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every task."""
    parser.add_argument("test", type=Path, help="the held-out rows, test.jsonl")
    parser.add_argument("out", type=Path, help="folder for answers, details and summary")
    parser.add_argument(
        "--system",
        action="append",
        required=True,
        help="NAME=FOLDER (or a model's name on the hub), NAME=MODEL@BASE_URL, NAME=FILE.jsonl; repeat",
    )
    add_engine(parser)
    parser.add_argument("--against", help="print paired differences of this system to every other one")
    about = "print the win rates of a blind comparison's log (bash recipes/page.sh --blind), and nothing else"
    parser.add_argument("--preferences", action=preferences.Show, type=Path, metavar="FILE", help=about)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """The option that says what runs a model's folder."""
    about = "folders answer through vLLM, on all GPUs, or not; without it by transformers, on a CPU by whichever should be done first"
    parser.add_argument("--vllm", action=argparse.BooleanOptionalAction, help=about)


def parse(task: Task, systems: Sequence[str], option: str = "--system") -> dict[str, str]:
    """Name -> what answers, of `NAME=…`. Raises BadInput for what is none, and for a name that stands twice."""
    how = task.evaluation
    specs: dict[str, str] = {}
    alone = "".join(f"{name}, " for name in how.columns)
    for system in systems:
        name, _, spec = system.partition("=")
        way, _, of = name.partition(":")
        if of and way in how.ways:
            if spec or name in specs:
                raise BadInput(f"{option} {system}: give {way}:NAME once, NAME being another system of this command")
            specs[name] = name
            continue
        if not name or (not spec and name not in how.columns):
            raise BadInput(f"{option} {system}: give {alone}NAME=FOLDER or NAME=MODEL@BASE_URL, or NAME=FILE.jsonl of answers")
        if name in specs:
            raise BadInput(f"{option} {system}: {name} stands twice: give each its own name")
        if spec.endswith(".jsonl"):
            if not Path(spec).is_file():
                raise BadInput(f"{option} {system}: {spec}: no such file: correct the path")
        elif spec not in ("", *how.columns) and "@http" not in spec and not Path(spec).is_dir() and not _HUB_NAME.fullmatch(spec):
            raise BadInput(f"{option} {system}: {spec} is no folder")
        specs[name] = spec or name
    for name in specs:
        if specs[name] == name and (of := _used(task, name)) and of not in specs:
            raise BadInput(f"{option} {name}: {of} is none of the systems {', '.join(specs)}: name it with {option}, too")
    return specs


def _used(task: Task, spec: str) -> str:
    """The system whose answers a candidate of the task's `ways` uses; "" for one that answers itself."""
    way, _, of = spec.partition(":")
    return of if way in task.evaluation.ways else ""


def measure(
    task: Task, systems: Mapping[str, str], rows: Sequence[Row], args: argparse.Namespace
) -> tuple[dict[str, Scores], dict[str, dict[str, float]]]:
    """Scores and costs of every system on the rows; answers and details are written into `args.out`."""
    how = task.evaluation
    keys = settings.student_keys(filter(None, map(_address, systems.values())))
    args.out.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Scores] = {}
    seconds: dict[str, dict[str, float]] = {}
    answers_of: dict[str, tuple[dict[str, str | None], dict[str, Cost]]] = {}
    for name, spec in sorted(systems.items(), key=lambda system: bool(_used(task, system[1]))):
        if of := _used(task, spec):
            answers_of[name] = answers_of[of]
        else:
            answers_of[name] = answered(task, name, spec, rows, args.out, args.vllm, keys.get(_address(spec), ""))
        answers, took = answers_of[name]
        scores[name] = how.measure(name, answers, rows, args)
        # The teacher's answers stand in the rows: what they took stands in the ledger of the run that asked for them.
        seconds[name] = costs.together(took.values()) if took or (of or name) != "teacher" else costs.of_ledger("teacher")
        details = [
            {shown: row[column] for shown, column in how.shown.items()}
            | {how.answer: answers.get(row[how.id]) or ""}
            | scores[name].get(row[how.id], {})
            | {key: value for key, value in asdict(took.get(row[how.id], Cost())).items() if value is not None}
            for row in rows
        ]
        write_aside({args.out / f"eval_details_{file_part(name)}.jsonl": json_lines(details)})
    return {name: scores[name] for name in systems}, {name: seconds[name] for name in systems}


def fetched(systems: Mapping[str, str]) -> dict[str, str]:
    """The systems, a model's name on the hub replaced by the folder it was fetched into."""
    return {name: str(students.fetched(spec)) if _HUB_NAME.fullmatch(spec) else spec for name, spec in systems.items()}


def evaluate(task: Task, args: argparse.Namespace) -> int:
    """Compare what the command line names; returns the exit code."""
    compare(task, parse(task, args.system), args)
    return 0


def compare(task: Task, systems: Mapping[str, str], args: argparse.Namespace) -> dict[str, Any]:
    """Measure every system on the rows of `args.test`, write the files into `args.out`, print the tables; returns the summary."""
    if args.against and args.against not in systems:
        raise BadInput(f"--against {args.against} is not among the systems {', '.join(systems)}")
    rows = task.evaluation.read(args)
    systems = fetched(systems)
    scores, seconds = measure(task, systems, rows, args)
    summary = summarise(scores, task.measures(), args.against)
    describe(summary, task)
    summary["failed"] = {name: 1 - len(scores[name]) / len(rows) for name in systems}
    summary["costs"] = seconds
    base = next((name for name, spec in systems.items() if spec == task.evaluation.base), "")
    summary["shares"] = shares(scores, base, task) if base else {}
    if task.headline:
        as_they_are = {name: values for name, values in scores.items() if not _used(task, systems[name])}
        summary["headline"] = promises.headline(task.headline, as_they_are, summary["means"], seconds)
    summary["systems"] = {name: str(Path(spec).resolve()) if Path(spec).exists() else spec for name, spec in systems.items()}
    files = {"summary.json": summary}
    for name in systems:
        files[f"eval_{file_part(name)}.json"] = {
            "system": name,
            "rows": summary["rows"][name],
            "means": summary["means"][name],
            "costs": seconds[name],
        }
    write_aside({args.out / name: json.dumps(value, ensure_ascii=False, indent=1, default=vars).encode() for name, value in files.items()})
    shown = [*(table(summary, metrics, head) for head, metrics in task.measured().items()), costs.table(seconds, "what an answer took")]
    shown.append(shares_table(summary["shares"]))
    if task.headline:
        shown.append(promises.table(summary["headline"]))
    print("\n\n".join(filter(None, shown)))
    missing = {name: len(rows) - len(values) for name, values in scores.items() if len(values) < len(rows)}
    if missing:
        print(f"not measured, and in no mean: {missing} (the service did not answer; see {settings.load().cache_dir}/ledger.jsonl)")
    unjudged = {name: count for name, values in scores.items() if (count := sum("judge" not in scored for scored in values.values()))}
    if args.judge and unjudged:
        print(f"without a verdict, and in no mean of the judge: {unjudged}")
    return summary


def answered(
    task: Task, name: str, spec: str, rows: Sequence[Row], out: Path, vllm: bool | None = False, key: str = ""
) -> tuple[dict[str, str | None], dict[str, Cost]]:
    """One answer for each row id, and what those took that were asked for. `vllm`: whether a folder answers by it, None for where it pays.

    They are kept in answers_<name>.jsonl as they come, so that a start after an interruption asks for the rest, and for what had none.
    """
    how = task.evaluation
    if spec in how.columns:
        return {row[how.id]: row[how.columns[spec]] for row in rows}, {}
    if spec.endswith(".jsonl"):
        return _of_file(task, Path(spec), rows), {}
    file = out / f"answers_{file_part(name)}.jsonl"
    try:
        chats = {row[how.id]: how.messages(row) for row in rows}
        thinks = {row[how.id]: task.decoding.thinks(row) for row in rows}
    except ValueError as error:
        raise BadInput(str(error)) from None
    served = "@http" in spec
    if vllm is None and not served:
        vllm = students.faster_by_vllm(Path(spec), list(chats.values()), task.decoding.limit)
    identity = _identity(spec, chats, thinks, *(["vllm"] if vllm and not served else []))
    earlier = _kept(task, file, identity)
    if not served and len(earlier) < len(rows):  # whole batches only: the padding of a batch can change the last bits of an answer
        earlier = dict(list(earlier.items())[: len(earlier) // students.BATCH * students.BATCH])
    if missing := [row for row in rows if row[how.id] not in earlier]:
        conversations, thinking = [chats[row[how.id]] for row in missing], [thinks[row[how.id]] for row in missing]
        write_aside({file: json_lines(earlier.values())})
        texts = {how.id: how.id, **{shown: column for shown, column in how.shown.items() if column in how.texts}}
        with file.open("ab", buffering=0) as stream:

            def keep(answers_now: Sequence[tuple[int, str | None, Cost]]) -> None:
                lines = {
                    missing[at][how.id]: {
                        "identity": identity,
                        **{shown: missing[at][column] for shown, column in texts.items()},
                        how.answer: text,
                        **asdict(cost),
                    }
                    for at, text, cost in answers_now
                    if text is not None
                }
                earlier.update(lines)
                stream.write(json_lines(lines.values()))

            if served:
                model, _, url = spec.partition("@")
                thinks_by_row = task.decoding.thinking == "rows"
                students.from_endpoint(model, url, key, conversations, task.decoding.limit, thinking, keep, announced=thinks_by_row)
            else:
                ask = students.from_vllm if vllm else students.from_folder
                ask(Path(spec), conversations, task.decoding.limit, thinking, keep)
        write_aside({file: json_lines(earlier[row[how.id]] for row in rows if row[how.id] in earlier)})
    answers = {row[how.id]: earlier[row[how.id]][how.answer] if row[how.id] in earlier else None for row in rows}
    names = Cost.__dataclass_fields__
    return answers, {row_id: Cost(**{name: line.get(name) for name in names}) for row_id, line in earlier.items()}


def _kept(task: Task, file: Path, identity: str) -> dict[str, dict[str, Any]]:
    """The lines of an earlier start by row id; what was broken off in the midst of a line, or is of another model or other rows, is not."""
    lines_by_id: dict[str, dict[str, Any]] = {}
    for text in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("identity") == identity:
            lines_by_id[line[task.evaluation.id]] = line
    return lines_by_id


def _of_file(task: Task, path: Path, rows: Sequence[Row]) -> dict[str, str | None]:
    """The answers that a file holds, the first of each row; a row that it lacks has none."""
    how = task.evaluation
    table = read_rows(path)
    names_of = ((how.id, "id"), (how.answer, "teacher_output", "answer"))
    names = [next((name for name in aliases if name in table[0]), "") for aliases in names_of]
    if not all(names):
        raise BadInput(f"{path}: no column {how.id} or no column {how.answer}; the columns there are {', '.join(table[0])}")
    answers_by_id: dict[str, str] = {}
    for line in table:
        answers_by_id.setdefault(line[names[0]], line[names[1]])
    if not answers_by_id.keys() & {row[how.id] for row in rows}:
        raise BadInput(f"{path}: none of its {len(table)} rows is one of the held-out rows: give answers to those")
    return {row[how.id]: answers_by_id.get(row[how.id]) for row in rows}


def _address(spec: str) -> str:
    """Where a served model is asked; "" for what is none."""
    return spec.partition("@")[2] if "@http" in spec else ""


def _identity(spec: str, chats: Mapping[str, list[dict[str, str]]], thinks: Mapping[str, bool | None], *engine: str) -> str:
    """Changes when the weights, the rows, their prompts or what runs the model change."""
    trained = None if "@http" in spec else thinking.trained(Path(spec))
    digest = hashlib.sha256(json.dumps([spec, chats, thinks, trained, *engine]).encode())
    for file in sorted(Path(spec).glob("*.safetensors")) if "@http" not in spec else []:
        digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def summarise(scores: Mapping[str, Scores], metrics: Sequence[str], against: str | None) -> dict[str, Any]:
    """Means with intervals for each system and, with `against`, the paired differences of that system to every other one.

    `p_holm` holds the p of each difference (`paired_p`), corrected over all differences that are shown together.
    """

    def column(name: str, metric: str) -> dict[str, float]:
        return {row_id: values[metric] for row_id, values in scores[name].items() if metric in values}

    measured = {name: [metric for metric in metrics if column(name, metric)] for name in scores}
    means = {name: {metric: bootstrap_mean(list(column(name, metric).values())) for metric in measured[name]} for name in scores}
    differences: dict[str, dict[str, Interval]] = {}
    if against:
        for name in scores:
            if name != against:
                differences[name] = {
                    metric: paired_difference(column(against, metric), column(name, metric))
                    for metric in measured[name]
                    if column(against, metric).keys() & column(name, metric).keys()
                }
    compared = [(name, metric) for name, metrics in differences.items() for metric in metrics]
    chances = holm([paired_p(column(str(against), metric), column(name, metric)) for name, metric in compared])
    corrected: dict[str, dict[str, float]] = {name: {} for name in differences}
    for (name, metric), chance in zip(compared, chances, strict=True):
        corrected[name][metric] = chance
    rows = {name: len(scores[name]) for name in scores}
    return {"rows": rows, "means": means, "against": against, "differences": differences, "p_holm": corrected}


def table(summary: Mapping[str, Any], metrics: Sequence[str], title: str) -> str:
    """The summary as text: a row for each system, then a row for each paired difference, `*` where it is shown.

    Metrics that no system has are not shown; "" when none is.
    """
    shown = [metric for metric in metrics if any(metric in means for means in summary["means"].values())]
    if not shown:
        return ""
    means = [[title, "rows", "failed", *shown]]
    for name, by_metric in summary["means"].items():
        cells = [f" {by_metric[metric]}" if metric in by_metric else "not measured" for metric in shown]
        means.append([name, str(summary["rows"][name]), f"{summary['failed'][name]:.1%}", *cells])
    lines = text_table.lines(means, ("<22", ">5", ">8", ">23"), ruled=True)
    if summary["differences"]:
        differences = [["paired difference", *shown]]
        for name, by_metric in summary["differences"].items():
            chances = summary["p_holm"][name]
            cells = [f" {_signed(by_metric[metric], chances[metric])}" if metric in by_metric else "not measured" for metric in shown]
            differences.append([f"{summary['against']} - {name}", *cells])
        head, *rows = text_table.lines(differences, ("<35", ">23"))
        lines += ["", head, lines[1], *rows]
        lines.append("* p < 0.05 after Holm's correction over all differences of this comparison, and the 95 % interval (paired bootstrap")
        lines.append("  over rows, not corrected) excludes 0; without it no difference is shown")
    return "\n".join(lines)


def shares(scores: Mapping[str, Scores], base: str, task: Task) -> dict[str, Any]:
    """Shares of the rows that each system makes better, leaves as they are and makes worse than `base`, by the measure of the task.

    {"base", "measure", "systems": {name: {"rows", "better", "same", "worse"}}}, of rows that both measured.
    """
    measured = [name for name in task.measures() if any(name in row for row in scores[base].values())]
    measure = main_measure(measured, task) if measured else ""
    systems: dict[str, dict[str, float]] = {}
    for name in scores:
        both = {key: (row, scores[base].get(key, {})) for key, row in scores[name].items()}
        pairs = [(ours[measure], theirs[measure]) for ours, theirs in both.values() if measure in ours and measure in theirs]
        if pairs and name != base:
            better, worse = (sum(sign * (ours - theirs) > _TIE for ours, theirs in pairs) / len(pairs) for sign in (1, -1))
            systems[name] = {"rows": len(pairs), "better": better, "same": 1 - better - worse, "worse": worse}
    return {"base": base, "measure": measure, "systems": systems}


def shares_table(shares: Mapping[str, Any]) -> str:
    """The shares as text, a row for each system; "" where there are none."""
    if not shares.get("systems"):
        return ""
    head = [f"{shares['measure']} against {shares['base']}", "rows", "better", "same", "worse"]
    rows = [[name, str(of["rows"]), *(f"{of[part]:.1%}" for part in head[2:])] for name, of in shares["systems"].items()]
    return "\n".join(text_table.lines([head, *rows], ("<35", ">5", ">10", ">10", ">10"), ruled=True))


def verdict(difference: Interval, chance: float) -> str:
    """Say in plain words what a difference shows, given its p after Holm's correction.

    >>> verdict(Interval(0.2, 0.1, 0.3), 0.01), verdict(Interval(0.2, 0.1, 0.3), 0.06)
    ('better', 'no difference shown')
    """
    return difference.verdict if chance < SIGNIFICANT else "no difference shown"


def _signed(difference: Interval, chance: float) -> str:
    mark = " " if verdict(difference, chance) == "no difference shown" else "*"
    return f"{difference.mean:+.3f} [{difference.low:+.2f},{difference.high:+.2f}]{mark}"
