"""Rows for `swift sample`: an RL file of tools/convert.py whose prompts get the teacher's rewrite as the answer that ms-swift insists on.

    swift sample --external_plugins plugin/register.py --dataset overtake/sample:rl_train.jsonl --prm_model rag_competition ...

ms-swift 4.6.0 fails on a row without an answer, takes the answer for one more candidate, and strips every other column: the rewards
find the row again by its conversation (overtake/rewards/sampling.py).
"""

from pathlib import Path
from typing import Any

from swift.dataset import DatasetLoader, DatasetMeta

from datasets import Dataset  # type: ignore[attr-defined]  # mypy takes our data folder for it
from overtake.rewards import sampling
from overtake.task import THINKING_COLUMN
from overtake.tasks.query_rewrite import TASK, conversations
from overtake.tasks.query_rewrite.columns import QUERY_ID, TEACHER_REWRITE


class PromptLoader(DatasetLoader):
    """Reads the file that stands behind the dataset's name."""

    def load(self, dataset_syntax: Any = None, dataset_meta: Any = None, *, use_hf: bool | None = None) -> Any:
        """The conversations of `overtake/sample:<file>`, their rows remembered for the rewards.

        Raises BadInput, a ValueError, when the file is absent or a row is out of form.
        """
        dataset_syntax.dataset = "/".join(dataset_syntax.subsets)  # ms-swift cut the path at its slashes
        rows = conversations.read(Path(dataset_syntax.dataset))
        sampling.remember({key: sampling.Sampled(row[QUERY_ID], conversations.cells(row)) for key, row in rows.items()})
        answers = ({"role": "assistant", "content": row[TEACHER_REWRITE]} for row in rows.values())
        turns = [[*sampling.prompt(row["messages"]), answer] for row, answer in zip(rows.values(), answers, strict=True)]
        # The sampler's engine of transformers makes a template of its own, so each row says whether it is thought about.
        more = {THINKING_COLUMN: {"enable_thinking": TASK.decoding.thinks({})}}
        return Dataset.from_list([{"messages": messages, **more} for messages in turns])


def sample() -> DatasetMeta:
    """Return what is registered as `overtake/sample`."""
    return DatasetMeta(dataset_name="overtake/sample", loader=PromptLoader)
