"""A table behind a registered name, `--dataset overtake/TASK:FILE`: read as the tools read it, made into samples for ms-swift."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swift.dataset import DatasetLoader, DatasetMeta, RowPreprocessor
from swift.utils import get_logger

from datasets import Dataset  # type: ignore[attr-defined]  # mypy takes our data folder for it
from overtake.data import tables
from overtake.data.tables import BadInput
from overtake.task import TEACHER_PROMPT_COLUMN

Row = dict[str, Any]
ToSample = Callable[[Mapping[str, Any]], Row | None]


class TableLoader(DatasetLoader):
    """Reads the table named after the colon; a `#500` behind it samples. `to_sample` and `check` are a subclass's own."""

    to_sample: ToSample
    """A row of text as a sample, None for one that is no example. Raises ValueError for a fault in the table."""
    check: Callable[[Sequence[str]], None] = staticmethod(lambda _: None)
    """Raises ValueError for columns that lack one."""

    def load(self, dataset_syntax: Any = None, dataset_meta: Any = None, *, use_hf: bool | None = None) -> Any:
        """The samples of `NAME:<file>`.

        Raises BadInput, a ValueError, naming file and row, when no file is named, it is absent or a row is at fault.
        """
        path = "/".join(dataset_syntax.subsets)  # ms-swift cut the path at its slashes, for it takes it for names of subsets
        if not Path(path).is_file():
            raise BadInput(f"--dataset {dataset_meta.dataset_name}:<file> names {path or 'no file'}, which is no file")
        dataset_syntax.dataset = path
        return self.samples(Path(path), tables.read_rows(path))

    def samples(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> Any:
        """The rows of a file as ms-swift trains on them."""
        renamed = {old.lower(): new for old, new in (self.columns or {}).items()}
        rows = [{renamed.get(name.lower(), name): value for name, value in row.items()} for row in rows]
        try:
            self.check(list(rows[0]))
            self.to_sample(dict.fromkeys(rows[0], ""))
        except ValueError as error:
            raise BadInput(f"{path}: {error}") from None
        converted = []
        for index, row in enumerate(rows):
            try:
                sample = self.to_sample(row)
                told = {TEACHER_PROMPT_COLUMN: row[TEACHER_PROMPT_COLUMN]} if row.get(TEACHER_PROMPT_COLUMN) else {}
                converted.append(sample and {**sample, **told})
            except ValueError as error:
                raise BadInput(f"{path}: row {tables.row_number(path, index)}: {error}") from None
        samples_kept = [sample for sample in converted if sample]
        if not samples_kept:
            raise BadInput(f"{path}: none of its {len(rows)} rows is an example: fill the columns that make one")
        if len(samples_kept) < len(converted):
            left_out = [tables.row_number(path, index) for index, sample in enumerate(converted) if not sample]
            get_logger().warning(
                f"{path}: {len(left_out)} of {len(converted)} rows are no examples and left out, the first is row {left_out[0]}"
            )
        # Without a function of its own it only gives the columns the types that all data sets have, so that they can be joined.
        samples = RowPreprocessor()(Dataset.from_list(samples_kept), strict=self.strict, load_from_cache_file=self.load_from_cache_file)
        samples = RowPreprocessor.remove_useless_columns(samples) if self.remove_unused_columns else samples
        return samples.to_iterable_dataset() if self.streaming else samples


def dataset_meta(
    name: str, to_sample: ToSample, check: Callable[[Sequence[str]], None] = TableLoader.check, loader: type[TableLoader] = TableLoader
) -> DatasetMeta:
    """Return what is registered as `name`."""
    named_loader = type(loader.__name__, (loader,), {"to_sample": staticmethod(to_sample), "check": staticmethod(check)})
    return DatasetMeta(dataset_name=name, loader=named_loader)
