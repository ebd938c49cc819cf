"""Medical: is the judge worth its price? Told on some rows by whether it prefers their reference to another row's answer.

    python tools/validate.py output/medical/data/train.jsonl output/medical/judge_worth.json --task medical

Writes {"model", "rows", "pairs", "auc", "faults"}. Where there are faults the judge is worthless, and the weight of its part of the reward
is to be 0 (OVERTAKE_MEDICAL_WEIGHT_TEACHER): recipes/medical.sh sees to that. What was judged is kept for a start after an interruption.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from overtake import cli, settings
from overtake.data import outputs, tables
from overtake.data.tables import BadInput
from overtake.remote import chat
from overtake.tasks.medical import judge_worth
from overtake.tasks.medical.columns import READ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this task."""
    parser.add_argument("input", type=Path, help="rows with references: train.jsonl of tools/prepare_medical.py")
    parser.add_argument("output", type=Path, metavar="OUTPUT.json", help="what was found")
    parser.add_argument("--concurrency", type=cli.positive, help="calls at once (default: OVERTAKE_JUDGE_CONCURRENCY)")


def work(args: argparse.Namespace) -> int:
    """Ask, write, say; 0 done. Raises BadInput, SettingsError or Abort."""
    if tables.suffix(args.output) != ".json":
        raise BadInput(f"{args.output}: what is found is one object: name a .json file")
    rows = tables.read_rows(args.input, required=READ)
    outputs.declare(args.output)
    try:
        found = judge_worth.pilot(rows, args.concurrency)
    except settings.SettingsError:
        raise
    except ValueError as error:
        raise BadInput(f"{args.input}: {error}") from None
    wrong, model = judge_worth.faults(found), chat.endpoint("judge").model
    auc = found.auc if found.pairs else None
    worth = {
        "model": model,
        "rows": found.rows,
        "pairs": len(found.pairs),
        "auc": auc and asdict(auc),
        "faults": wrong,
    }
    outputs.write_aside({args.output: json.dumps(worth, ensure_ascii=False, indent=1).encode()})
    if wrong:
        print(
            f"the judge {model} is worthless and left out: {'; '.join(wrong)}. Set OVERTAKE_MEDICAL_WEIGHT_TEACHER=0, so "
            "that RL goes by the rules alone, or OVERTAKE_JUDGE_MODEL to a stronger model and run again"
        )
    elif found.rows < judge_worth.FEWEST:
        print(f"{found.rows} rows have a reference, at least {judge_worth.FEWEST} are needed to tell what {model} is worth")
    else:
        print(f"{model} prefers a row's reference to another row's answer in {auc} of {len(found.pairs)} pairs: it is worth asking")
    print(f"{args.output} written")
    return 0
