"""Row groups of Parquet files as blocks of rows, by pyarrow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpumlp.backends.runtime import Array
from gpumlp.errors import caller_level
from gpumlp.training import data
from gpumlp.training.blocks import NUMBER, ORDER, Block, files

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LARGE = 64 << 20  # bytes of a row group, of which six may be in memory
GOOD = 1 << 20  # bytes of one, 16 of which are mixed
OPEN = 16  # files at a time: a data set may have more of them than a process may open


class RowGroups:
    """The row groups of files, each opened when it is read, and the last few kept open."""

    def __init__(
        self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], features: Sequence[str],
        target: str | Sequence[str] | None, weight: str | None,
    ) -> None:  # fmt: skip
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Parquet is read by pyarrow: pip install 'gpumlp[data]'.") from error
        self._columns = [
            [names] if isinstance(names, str) else list(names) if names is not None else None
            for names in (features, target, weight)
        ]
        for name, names in zip(("features", "target"), self._columns, strict=False):
            if names == [] or (names is None and name == "features"):
                raise ValueError(f"{name} must name at least one column; got none.")
        wanted = [name for names in self._columns for name in names or ()]
        self._groups: list[tuple[Path, int]] = []
        self._open: dict[Path, ParquetFile] = {}  # the last one used comes last
        self._widths: dict[str, int] = {}
        bounds = [0]
        for file in files(path):
            opened = self._opened(file)
            self._check(opened, wanted, str(file))
            for group in range(opened.num_row_groups):
                if rows := opened.metadata.row_group(group).num_rows:
                    self._groups.append((file, group))
                    bounds.append(bounds[-1] + rows)
        self._check_widths(wanted)
        self.bounds = np.array(bounds, np.int64)
        self.row_bytes = NUMBER * sum(self._widths.get(name, 1) for name in wanted) + ORDER
        largest = int(np.diff(self.bounds).max(initial=0))
        if largest * self.row_bytes > LARGE:
            warnings.warn(
                f"A row group is a block, and is read as a whole: the largest has {largest} rows, which take "
                f"{largest * self.row_bytes >> 20} MiB each time, and few such are mixed. Write files with "
                f"row_group_size={max(1, GOOD // self.row_bytes)}, groups of 1 MiB.",
                stacklevel=caller_level(),
            )

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_open": {}}  # each process opens files for itself

    def _opened(self, file: Path) -> ParquetFile:
        from pyarrow.parquet import ParquetFile

        found = self._open.pop(file, None) or ParquetFile(file)
        self._open[file] = found
        if len(self._open) > OPEN:
            self._open.pop(next(iter(self._open)), None)
        return found

    def _check(self, opened: Any, wanted: Sequence[str], file: str) -> None:
        from pyarrow import types

        schema = opened.schema_arrow
        if missing := [name for name in wanted if name not in schema.names]:
            raise ValueError(f"{file} has no column {missing[0]!r}; it has {', '.join(map(repr, schema.names))}.")
        wrong = []
        for name in wanted:
            kind = schema.field(name).type
            width: int | None = 1
            if _is_list(kind):
                width = getattr(kind, "list_size", 0) or _first_length(opened, name)
                kind = kind.value_type
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                wrong.append(f"{name!r} ({kind})")
            elif width is not None and self._widths.setdefault(name, width) != width:
                raise ValueError(f"{file}: column {name!r} has {width} numbers a row, others {self._widths[name]}.")
        if wrong:
            raise TypeError(data.no_numbers(file, wrong))

    def _check_widths(self, wanted: Sequence[str]) -> None:
        """Raise ValueError for lists that are empty, and for more than one weight of a sample."""
        if empty := [name for name in wanted if self._widths.get(name) == 0]:
            raise ValueError(
                f"Column {empty[0]!r} begins with a list that is empty or missing; all must have as many numbers, one "
                "or more."
            )
        for name in self._columns[2] or ():
            if self._widths.get(name, 1) != 1:
                raise ValueError(
                    f"sample_weight must be a column of numbers, one a row; {name!r} has lists of {self._widths[name]}."
                )

    def read(self, block: int) -> Block:
        """See `gpumlp.training.blocks.Reader`."""
        path, group = self._groups[block]
        file = self._opened(path)
        names = [name for names in self._columns for name in names or ()]
        table = file.read_row_group(group, columns=names, use_threads=False)  # the processors train meanwhile
        x, y, weights = (None if names is None else self._array(table, names) for names in self._columns)
        return x, y, None if weights is None else weights[:, 0]

    def _array(self, table: Any, names: Sequence[str]) -> Array:
        """Return columns side by side, what is missing as NaN."""
        parts = [_column(name, table.column(name), self._widths[name]) for name in names]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return any(is_one(kind) for is_one in (types.is_fixed_size_list, types.is_list, types.is_large_list))


def _first_length(opened: Any, name: str) -> int | None:
    """Return how many numbers the first list of a column has, which all must have; None where there is no row."""
    for batch in opened.iter_batches(1, columns=[name]):
        return len(batch.column(0)[0].as_py() or ())
    return None


def _column(name: str, column: Any, width: int) -> Array:
    """Return a column of numbers, or of lists of ``width`` numbers, as [rows, numbers]."""
    if not _is_list(column.type):
        return np.asarray(column.to_numpy())[:, None]
    from pyarrow import compute

    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if None in lengths:
        raise ValueError("a list is missing")
    if lengths != [width]:
        other = next(length for length in lengths if length != width)
        raise ValueError(f"column {name!r} has a list of {other} numbers; the first one has {width}, as all must have")
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts).reshape(-1, width) if len(parts) > 1 else parts[0].reshape(-1, width)
