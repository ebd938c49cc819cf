"""Medical answers: a table of questions and answers as it is -> messages and the columns of the medical rewards.

Files made by tools/prepare_medical.py need none of this. This is for a table that was not prepared, named after a colon:

    swift sft --external_plugins plugin/register.py --dataset overtake/medical:my/answers.xlsx ...

jsonl, json, csv, parquet or xlsx; columns question and answer, maybe reasoning and keywords, under the names of data/medical.py. Nothing
is split, no near-duplicate and no unsafe answer is left out.
"""

from typing import Any

from swift.dataset import DatasetMeta, RowPreprocessor

from overtake.data.files import FileLoader
from overtake.tasks.medical import rows


class MedicalPreprocessor(RowPreprocessor):
    """`to_sample` as ms-swift calls it."""

    def preprocess(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """One row."""
        return rows.to_sample(row)

    def prepare_dataset(self, dataset: Any) -> Any:
        """Refuse a table without a column of questions or of answers as a whole; ms-swift would only drop each row with a warning."""
        names = [str(name).strip().casefold() for name in (dataset.column_names or next(iter(dataset)))]
        for part in ("question", "answer"):
            if not set(names) & set(rows.COLUMNS[part]):
                raise ValueError(f"no column {part}: there are {', '.join(names)}; name it {' or '.join(rows.COLUMNS[part][:2])}")
        return dataset


def medical() -> DatasetMeta:
    """What is registered as `overtake/medical`."""
    return DatasetMeta(dataset_name="overtake/medical", preprocess_func=MedicalPreprocessor(), loader=FileLoader)
