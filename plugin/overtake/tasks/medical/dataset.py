"""Medical answers: a table of questions and answers as it is -> messages and the columns of the medical rewards.

Files made by tools/prepare_medical.py need none of this. This is for a table that was not prepared, named after a colon:

    swift sft --external_plugins plugin/register.py --dataset overtake/medical:my/answers.xlsx ...

jsonl, json, csv, parquet or xlsx; columns question and answer, maybe reasoning, keywords and rubrics, named as in tasks/medical/rows.py.
Nothing is split, no near-duplicate and no unsafe answer is left out.
"""

from collections.abc import Sequence

from swift.dataset import DatasetMeta

from overtake.data import files
from overtake.tasks.medical import rows


def check(names: Sequence[str]) -> None:
    """Raise ValueError for a table without a column of questions or of answers."""
    names_there = [name.strip().casefold() for name in names]
    for part in ("question", "answer"):
        if not set(names_there) & set(rows.COLUMNS[part]):
            raise ValueError(f"no column {part}: there are {', '.join(names_there)}; name it {' or '.join(rows.COLUMNS[part][:2])}")


def medical() -> DatasetMeta:
    """Return what is registered as `overtake/medical`."""
    return files.dataset_meta("overtake/medical", rows.to_sample, check)
