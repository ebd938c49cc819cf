"""Query rewriting: a validated sheet, step 3 of its data.

    python tools/convert.py validated.xlsx data/ --require-gain

The split is drawn before the filter, so that evaluation sees the questions where the teacher lost too. OUT_DIR gets

    train.jsonl, val.jsonl        filtered, for SFT: messages (system, user, assistant) and metadata
    rl_train.jsonl, rl_val.jsonl  unfiltered, for RL: messages (system, user), the teacher's measurements as rag_* columns, and what the
                                  student is asked as its own teacher (teacher_prompt: the question, the teacher's rewrite, a passage)
    test.jsonl                    unfiltered and held out, columns as for RL
    convert_stats.json            what fell where and why
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overtake import cli
from overtake.data.near_duplicates import is_copy
from overtake.data.splits import split
from overtake.data.tables import BadInput
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.corpus import read_corpus, read_qrels
from overtake.task import TEACHER_PROMPT_COLUMN
from overtake.tasks.query_rewrite import prompts
from overtake.tasks.query_rewrite.columns import COLUMNS
from overtake.tasks.query_rewrite.rows import RewriteRow
from overtake.tasks.query_rewrite.validate import read_sheet

GENERATED = ("query_id", "original_query", "rewritten_query", "user_profile", "history_summary", "tenant_id", "teacher_model")
_SAID = (
    *("query_id", "original_query", "tenant_id", "kb_name", "user_profile", "history_summary"),
    *("gold", "rewritten_query", "recall", "judge_score", "original_recall"),
)
"""What a validated row calls the reward columns."""
VALIDATED = ("success", "top1_score", "recall", "original_recall", "quality", "gain", "gold", "kb_name")
SIDES = ("train", "val", "test")
_PASSAGE = 400
"""Characters of a passage that a student sees as its own teacher."""

Row = dict[str, str]


def read_input(path: Path) -> list[Row]:
    """The sheet that tools/validate.py wrote, every cell checked; refused whole otherwise."""
    filled = ("query_id", "original_query", "rewritten_query")
    return read_sheet(path, (*GENERATED, *VALIDATED), filled, "tools/validate.py", _check)


def drawn(rows: Sequence[Row], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The side of each query_id; all rows of one question go to the same side."""
    sides = split([row["original_query"] for row in rows], shares, seed)
    return {row["query_id"]: side for row, side in zip(rows, sides, strict=True)}


def published(rows: Sequence[Row], folder: Path, shares: Mapping[str, float], seed: int) -> tuple[dict[str, str], list[str]]:
    """Return (the side of each query_id, ids left out) where labels name the held-out questions: qrels/test.tsv, maybe dev.tsv or val.tsv.

    A row outside a published side that asks one of its questions in other words' punctuation would be a leak: it is left out.
    """
    ids = {"test": _ids(folder, "test")}
    val = next((name for name in ("val", "dev") if (folder / "qrels" / f"{name}.tsv").is_file()), None)
    if val:
        ids["val"] = _ids(folder, val) - ids["test"]
    sides = {row["query_id"]: side for side, names in ids.items() for row in rows if row["query_id"] in names}
    owners: dict[str, str] = {}
    left_out = []
    for row in sorted(rows, key=lambda row: ("test", "val", None).index(sides.get(row["query_id"]))):
        side, question = sides.get(row["query_id"]), for_likeness(row["original_query"])
        if side is None:
            if question in owners:
                left_out.append(row["query_id"])
        elif owners.setdefault(question, side) != side:
            left_out.append(row["query_id"])
            del sides[row["query_id"]]
    rest = [row for row in rows if row["query_id"] not in sides and row["query_id"] not in left_out]
    if val:
        sides |= {row["query_id"]: "train" for row in rest}
    elif rest:
        both = shares["train"] + shares["val"]
        sides |= drawn(rest, {side: shares[side] / both for side in ("train", "val")}, seed)
    return sides, left_out


def rejection_reason(row: Row, min_top1: float, require_gain: bool) -> str | None:
    """Return why a row is not one to imitate; None for one that is.

    Labels say what a rewrite is worth, by its quality and its gain; top1_score would only ask whether gold stands first. Without labels
    it is the reranker's opinion, which `min_top1` bounds.
    """
    if row["success"] != "true":
        return "nothing recalled"
    if row["gold"] and float(row["quality"]) <= 0:
        return "no labelled document recalled"
    if not row["gold"] and float(row["top1_score"]) < min_top1:
        return f"top1_score below {min_top1:g}"
    if is_copy(row["original_query"], row["rewritten_query"]):
        return "rewrite copies the query"
    if (require_gain or row["gold"]) and float(row["gain"]) < 0:
        return "retrieves worse than the original"
    return None


def sft_row(row: Row) -> dict[str, Any]:
    """One sample to imitate."""
    assistant = {"role": "assistant", "content": row["rewritten_query"]}
    metadata = {"query_id": row["query_id"], "top1_score": float(row["top1_score"]), "source": row["teacher_model"]}
    return {"messages": [*_messages(row), assistant], "metadata": metadata}


def rl_row(row: Row, passages: Mapping[str, str]) -> dict[str, Any]:
    """One prompt with what the rewards need; every reward column is text, so that all files have one schema. `passages`: by document id."""
    texts = dict(zip(COLUMNS, (row.get(name, "") for name in _SAID), strict=True))
    parsed, messages = RewriteRow.from_columns(texts), _messages(row)
    # The labelled documents come first, then what the teacher's rewrite found, the best one first.
    ranked = [*parsed.gold, *(hit.doc_id for hit in parsed.teacher_recall or ())]
    passage = next((passages[name] for name in ranked if name and name in passages), "")
    privileged = prompts.self_teacher_prompt(messages[-1]["content"], parsed.teacher_rewrite, passage)
    return {"messages": messages, **parsed.to_columns(), TEACHER_PROMPT_COLUMN: privileged}


def work(args: argparse.Namespace) -> int:
    """Read, split, filter, write; 0 done. Raises BadInput."""
    shares = _shares(args.split)
    cli.check_folder(args.out_dir)
    rows = read_input(args.input)
    passages = _passages(args.corpus or (args.qrels if args.qrels and (args.qrels / "corpus.jsonl").is_file() else None))
    sides, left_out = published(rows, args.qrels, shares, args.seed) if args.qrels else (drawn(rows, shares, args.seed), [])
    of_side = {side: [row for row in rows if sides.get(row["query_id"]) == side] for side in SIDES}
    counts = {side: len(members) for side, members in of_side.items()}
    by_split: dict[str, list[Row]] = {}
    dropped: dict[str, dict[str, int]] = {}
    for side in ("train", "val"):
        reasons = [rejection_reason(row, args.min_top1, args.require_gain) for row in of_side[side]]
        by_split[side] = [row for row, reason in zip(of_side[side], reasons, strict=True) if reason is None]
        dropped[side] = dict(sorted(Counter(reason for reason in reasons if reason).items()))
    files = {
        "train.jsonl": [sft_row(row) for row in by_split["train"]],
        "val.jsonl": [sft_row(row) for row in by_split["val"]],
        **{f"{'' if side == 'test' else 'rl_'}{side}.jsonl": [rl_row(row, passages) for row in of_side[side]] for side in SIDES},
    }
    if not shares["val"] and not of_side["val"]:
        del files["val.jsonl"], files["rl_val.jsonl"]
    if empty := [name for name, lines in files.items() if not lines]:
        raise BadInput(
            f"{args.input}: {', '.join(empty)} would be empty: of {len(rows)} rows {cli.counted(counts)} were drawn, and the filter "
            f"dropped {cli.counted(dropped['train']) or 'none'} of train, {cli.counted(dropped['val']) or 'none'} of val: give more rows, "
            "or change --split, --min-top1 or --qrels"
        )
    stats = {
        "input": args.input.name,
        "input_sha256": hashlib.sha256(args.input.read_bytes()).hexdigest(),
        "rows": len(rows),
        "questions": len({for_likeness(row["original_query"]) for row in rows}),
        "seed": args.seed,
        "split": list(args.split),
        "held_out_by": "qrels" if args.qrels else "draw",
        "min_top1": args.min_top1,
        "require_gain": args.require_gain,
        "drawn": counts,
        "left_out_same_question_as_held_out": sorted(left_out),
        "dropped": dropped,
        "judged": sum(bool(row.get("judge_score")) for row in rows),
        "labelled": sum(bool(row["gold"]) for row in rows),
        "files": {name: len(lines) for name, lines in files.items()},
    }
    cli.write_folder(args.out_dir, {**files, "convert_stats.json": stats})
    print(
        f"{len(rows)} rows in, drawn {cli.counted(counts)}; SFT keeps {len(by_split['train'])} train and {len(by_split['val'])} val "
        f"(dropped: {cli.counted(Counter(dropped['train']) + Counter(dropped['val'])) or 'none'}); {args.out_dir} written"
    )
    return 0


def _check(where: str, row: Row) -> None:
    if row["tenant_id"] not in prompts.tenants():
        raise BadInput(
            f"{where}: tenant_id {row['tenant_id']!r}: there are {', '.join(prompts.tenants())}; add prompts/rewrite_<tenant>.txt"
        )
    if row["success"].lower() not in ("true", "false"):
        raise BadInput(f"{where}: success is {row['success']!r}: write true or false")
    row["success"] = row["success"].lower()  # Excel makes TRUE of it
    for name, low, high in (("top1_score", None, None), ("quality", None, None), ("gain", None, None), ("judge_score", 0.0, 5.0)):
        if name == "judge_score" and not row.get(name):
            continue  # not judged
        _number(where, name, row[name], low, high)
    for name in ("recall", "original_recall"):
        _json(where, name, row[name], "[[doc_id, score], …]", _is_recall)
    if row["gold"]:
        _json(where, "gold", row["gold"], "a list of document ids, or nothing", _is_ids)


def _number(where: str, name: str, text: str, low: float | None, high: float | None) -> None:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" from {low:g} to {high:g}"
        raise BadInput(f"{where}: {name} is {text[:60]!r}, no number{bounds}: run tools/validate.py again")


def _json(where: str, name: str, text: str, form: str, fits: Callable[[Any], bool]) -> None:
    try:
        if fits(json.loads(text)):
            return
    except (ValueError, RecursionError):
        pass
    raise BadInput(f"{where}: {name} is {text[:60]!r}, not {form} as JSON: run tools/validate.py again")


def _is_recall(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, list) and len(item) == 2 and isinstance(item[0], str | None) and isinstance(item[1], int | float) for item in value
    )


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _messages(row: Row) -> list[dict[str, str]]:
    return prompts.rewrite_messages(row["tenant_id"], row["original_query"], row["user_profile"], row["history_summary"])


def _ids(folder: Path, split: str) -> set[str]:
    try:
        return set(read_qrels(folder, split))
    except ValueError as error:
        raise BadInput(f"--qrels {error}") from None


def _passages(folder: Path | None) -> dict[str, str]:
    """The text of each document, cut to what a prompt has room for."""
    try:
        documents = read_corpus(folder) if folder else []
    except ValueError as error:
        raise BadInput(f"--corpus {error}") from None
    return {document.id: " ".join(f"{document.title} {document.text}".split())[:_PASSAGE] for document in documents}


def _shares(numbers: Sequence[float]) -> dict[str, float]:
    train, val, test = numbers
    if not (train > 0 and val >= 0 and test > 0) or abs(sum(numbers) - 1) > 1e-6:
        shares = " ".join(map(str, numbers))
        raise BadInput(f"--split {shares}: give three positive shares that sum to 1, e.g. 0.8 0.1 0.1; that of val may be 0")
    return dict(zip(SIDES, numbers, strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("input", type=Path, help="sheet that tools/validate.py wrote")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to write")
    parser.add_argument(
        "--split", type=float, nargs=3, default=(0.8, 0.1, 0.1), metavar=("TRAIN", "VAL", "TEST"), help="default 0.8 0.1 0.1; VAL may be 0"
    )
    parser.add_argument("--seed", type=int, default=20, help="default %(default)s")
    parser.add_argument(
        "--min-top1", type=float, default=0.6, help="least top1_score to imitate where there are no labels (default %(default)s)"
    )
    parser.add_argument(
        "--require-gain", action="store_true", help="imitate only what retrieves at least as well as the original; with labels always"
    )
    parser.add_argument("--qrels", type=Path, help="folder whose qrels/test.tsv (and dev.tsv or val.tsv) names the held-out questions")
    parser.add_argument(
        "--corpus",
        type=Path,
        help="folder whose corpus.jsonl holds the passages for teacher_prompt (default: that of --qrels, if it has one)",
    )
