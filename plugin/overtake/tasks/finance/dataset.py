"""Finance: problems with or without a solution -> messages and the reward columns.

    swift sft --external_plugins plugin/register.py --dataset overtake/finance:output/finance/data/sft.jsonl ...
    swift rlhf --rlhf_type grpo --external_plugins plugin/register.py --dataset overtake/finance:output/finance/data/rl.jsonl ...

Any file of the finance tools (raw, distilled, sft, rl, test) or table of one's own, named after a colon: jsonl, json, csv, parquet or xlsx;
a `#500` behind it samples. Without a colon, or with `hf::` or `ms::` before the name, it is DianJin-R1-Data from its hub.
Columns are found as tools/prepare_finance.py finds them; `teacher_output`, `response` or `output` is what SFT learns, where it holds an
answer tag.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swift.dataset import DatasetMeta

from overtake.data import cells as texts
from overtake.data import files, hub
from overtake.tasks.finance import prompts
from overtake.tasks.finance import rows as problems

DIANJIN = {"hf": "DianJin/DianJin-R1-Data", "ms": "tongyi_dianjin/DianJin-R1-Data"}
SOLUTIONS = ("teacher_output", "response", "output")


def to_sample(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Turn one row into messages and text columns for the rewards; None for a row that cannot be asked.

    A row with a solution but no gold answer apart, such as those of sft.jsonl and of DianJin-R1-Data, has the solution's answer for gold.

    >>> row = {"id": "a", "prompt": "收入1000万元，增长25%，上年多少？", "gold_answer": "800万元", "type": "calculation"}
    >>> sample = to_sample(row)
    >>> [message["role"] for message in sample["messages"]], sample["fin_id"], sample["fin_gold"], sample["fin_type"]
    (['system', 'user'], 'a', '800万元', 'calculation')

    Raises ValueError naming the columns that would do, when there is none for the question or the answer.
    """
    of = problems.columns(list(row), {})
    cells = texts.cells(row)
    problem = problems.problem(cells, of, "")
    if problems.rejection_reason(problem):
        return None
    solution = _solution(cells)
    learnt = [{"role": "assistant", "content": solution}] if "<answer>" in solution else []
    messages = [*prompts.finance_messages(problem["question"]), *learnt]
    return {"messages": messages, **problems.FinanceRow.of(problem).to_columns()}


def _solution(cells: dict[str, str]) -> str:
    return next((cells[name].strip() for name in SOLUTIONS if name in cells), "")


class FinanceLoader(files.TableLoader):
    """The file named after the colon; without one, DianJin-R1-Data from its hub."""

    def load(self, dataset_syntax: Any = None, dataset_meta: Any = None, *, use_hf: bool | None = None) -> Any:
        """The rows, preprocessed. Raises ValueError when the file is absent or the hub cannot be reached."""
        if dataset_syntax.subsets:
            return super().load(dataset_syntax, dataset_meta, use_hf=use_hf)
        name = "hf" if use_hf else "ms"
        folder = hub.fetch(f"{name}::{DIANJIN[name]}")
        dataset_syntax.dataset = DIANJIN[name]
        rows = [
            problems.problem(cells, problems.columns(list(cells), {}), file.stem) | {"response": _solution(cells)}
            for file, table in hub.read_any(folder)
            for cells in table
        ]
        return self.samples(Path(dataset_syntax.dataset), rows)


def finance() -> DatasetMeta:
    """Return what is registered as `overtake/finance`."""
    return files.dataset_meta("overtake/finance", to_sample, loader=FinanceLoader)
