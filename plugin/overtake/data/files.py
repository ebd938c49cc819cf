"""The file that stands behind a registered name, `--dataset overtake/TASK:FILE`: ms-swift 4.6.0 has no other way to say that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from swift.dataset import DatasetLoader, DatasetMeta, RowPreprocessor

from datasets import Dataset  # type: ignore[attr-defined]  # mypy takes our data folder for it

Row = dict[str, Any]


class FilePreprocessor(RowPreprocessor):
    """A pure `to_sample(row)` as ms-swift calls it: None leaves the row out."""

    def __init__(self, to_sample: Callable[[Row], Row | None]) -> None:
        super().__init__()
        self.to_sample = to_sample

    def preprocess(self, row: Row) -> Row | None:
        """One row."""
        return self.to_sample(row)

    def prepare_dataset(self, dataset: Any) -> Any:
        """Refuse a table that lacks a column as a whole; ms-swift would only drop each row with a warning."""
        self.to_sample(dict.fromkeys(dataset.column_names or next(iter(dataset))))
        return dataset


class FileLoader(DatasetLoader):
    """Reads the file named after the colon: jsonl, json, csv, parquet or xlsx; a `#500` behind it samples."""

    def load(self, dataset_syntax: Any = None, dataset_meta: Any = None, *, use_hf: bool | None = None) -> Any:
        """The rows of `NAME:<file>`, preprocessed.

        Raises ValueError when no file is named or it is absent.
        """
        path = "/".join(dataset_syntax.subsets)  # ms-swift cut the path at its slashes, for it takes it for names of subsets
        if not Path(path).is_file():
            raise ValueError(f"--dataset {dataset_meta.dataset_name}:<file> names {path or 'no file'}, which is no file")
        dataset_syntax.dataset = path
        if not path.endswith(".xlsx"):
            return self._load_dataset_path(path, dataset_meta)
        import pandas

        return self.prepared(Dataset.from_pandas(pandas.read_excel(path, dtype=str), preserve_index=False), dataset_meta)

    def prepared(self, table: Any, dataset_meta: Any) -> Any:
        """A table in memory as ms-swift prepares the files that it reads itself."""
        if self.columns:
            table = RowPreprocessor.safe_rename_columns(table, self.columns)
        samples = dataset_meta.preprocess_func(table, strict=self.strict, load_from_cache_file=self.load_from_cache_file)
        return RowPreprocessor.remove_useless_columns(samples) if self.remove_unused_columns else samples


def dataset_meta(name: str, to_sample: Callable[[Row], Row | None], loader: type[FileLoader] = FileLoader) -> DatasetMeta:
    """What is registered as `name`."""
    return DatasetMeta(dataset_name=name, preprocess_func=FilePreprocessor(to_sample), loader=loader)
