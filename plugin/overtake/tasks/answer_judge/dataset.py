"""The judge of answers: rows with a question, reference answers, a generated answer and its verdict -> messages and reward columns.

    swift rlhf --rlhf_type grpo --external_plugins plugin/register.py --dataset overtake/judge:graded.xlsx ...

jsonl, json, csv, parquet or xlsx; a `#500` behind it samples. Columns as `tools/judge.py` reads them (the user's own `question`, `answer`,
`answer_hat`, `label`; EVOUNA's; what `tools/judge.py` writes). A row with `judge_reason` and both verdicts is an example for SFT, unless a
human label says other than the judge did: then the reason argues for the wrong one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from swift.dataset import DatasetMeta

from overtake.data import cells as texts
from overtake.data import files
from overtake.tasks.answer_judge import prompts
from overtake.tasks.answer_judge.columns import JUDGE_MAIN, JUDGE_REASON
from overtake.tasks.answer_judge.judgements import Judgement, write_judgement
from overtake.tasks.answer_judge.rows import alternatives, columns_of, judge_row


def to_sample(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Turn one row into messages and text columns for the rewards; None for a row without a reference answer or without a verdict.

    >>> row = {"question": "capital of France", "answer": "Paris", "answer_hat": "It is Lyon.", "label": "错误"}
    >>> sample = to_sample(row)
    >>> [message["role"] for message in sample["messages"]], sample["judge_answer"], sample["judge_main"]
    (['system', 'user'], '["Paris"]', 'incorrect')

    Raises ValueError naming the column that is missing, and for a label that is no verdict.
    """
    cells = texts.cells(row)
    columns = columns_of(cells)
    if not alternatives(cells[columns["gold"]]):
        return None
    judged = judge_row(cells, columns)
    if judged.main is None:
        return None
    messages = prompts.judge_messages(judged.question, judged.gold, judged.answer_hat)
    reason = cells.get(JUDGE_REASON, "").strip()
    if reason and judged.secondary and cells.get(JUDGE_MAIN, judged.main) == judged.main:
        text = write_judgement(Judgement(judged.main, judged.secondary, reason))
        messages.append({"role": "assistant", "content": text})
    return {"messages": messages, **judged.to_columns()}


def check(names: Sequence[str]) -> None:
    """Raise ValueError naming the column that a table lacks."""
    if "main" not in columns_of(dict.fromkeys(names)):
        raise ValueError(f"no column holds the verdict on the answer: name it label or {JUDGE_MAIN}")


def judge() -> DatasetMeta:
    """Return what is registered as `overtake/judge`."""
    return files.dataset_meta("overtake/judge", to_sample, check)
