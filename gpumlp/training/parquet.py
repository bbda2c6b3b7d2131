"""Row groups of Parquet files as blocks of rows, by pyarrow."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpumlp.backends.runtime import Array
from gpumlp.errors import caller_level
from gpumlp.training import data
from gpumlp.training.blocks import NUMBER, ORDER, Block, files

LARGE = 64 << 20  # bytes of a row group, of which six may be in memory
GOOD = 1 << 20  # bytes of one, 16 of which are mixed


class RowGroups:
    """Files that stay open: what says where each row group is, is read once."""

    def __init__(
        self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], features: Sequence[str],
        target: str | Sequence[str] | None, weight: str | None,
    ) -> None:  # fmt: skip
        try:
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("Parquet is read by pyarrow: pip install 'gpumlp[data]'.") from error
        self._columns = [
            [names] if isinstance(names, str) else list(names) if names is not None else None
            for names in (features, target, weight)
        ]
        wanted = [name for names in self._columns for name in names or ()]
        self._groups: list[tuple[Any, int]] = []
        self._widths: dict[str, int] = {}
        bounds = [0]
        for file in files(path):
            opened = parquet.ParquetFile(file)
            self._check(opened.schema_arrow, wanted, str(file))
            for group in range(opened.num_row_groups):
                if rows := opened.metadata.row_group(group).num_rows:
                    self._groups.append((opened, group))
                    bounds.append(bounds[-1] + rows)
        self.bounds = np.array(bounds, np.int64)
        self.row_bytes = NUMBER * sum(self._widths[name] for name in wanted) + ORDER
        largest = int(np.diff(self.bounds).max(initial=0))
        if largest * self.row_bytes > LARGE:
            warnings.warn(
                f"A row group is a block, and is read as a whole: the largest has {largest} rows, which take "
                f"{largest * self.row_bytes >> 20} MiB each time, and few such are mixed. Write files with "
                f"row_group_size={max(1, GOOD // self.row_bytes)}, groups of 1 MiB.",
                stacklevel=caller_level(),
            )

    def _check(self, schema: Any, wanted: Sequence[str], file: str) -> None:
        from pyarrow import types

        if missing := [name for name in wanted if name not in schema.names]:
            raise ValueError(f"{file} has no column {missing[0]!r}; it has {', '.join(map(repr, schema.names))}.")
        wrong = []
        for name in wanted:
            kind, width = schema.field(name).type, 1
            if types.is_fixed_size_list(kind):
                kind, width = kind.value_type, kind.list_size
            if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
                wrong.append(f"{name!r} ({kind})")
            elif self._widths.setdefault(name, width) != width:
                raise ValueError(f"{file}: column {name!r} has {width} numbers a row, others {self._widths[name]}.")
        if wrong:
            raise TypeError(data.no_numbers(file, wrong))

    def read(self, block: int) -> Block:
        """See `gpumlp.training.blocks.Reader`."""
        file, group = self._groups[block]
        names = [name for names in self._columns for name in names or ()]
        table = file.read_row_group(group, columns=names, use_threads=False)  # the processors train meanwhile
        x, y, weights = (None if names is None else self._array(table, names) for names in self._columns)
        return x, y, None if weights is None else weights[:, 0]

    def _array(self, table: Any, names: Sequence[str]) -> Array:
        """Return columns side by side, what is missing as NaN."""
        parts = [self._column(table.column(name)) for name in names]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1)

    @staticmethod
    def _column(column: Any) -> Array:
        """Return a column of numbers, or of lists that are all as long, as [rows, numbers]."""
        if not (width := getattr(column.type, "list_size", 0)):
            return np.asarray(column.to_numpy())[:, None]
        if column.null_count:
            raise ValueError("a list is missing")
        parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
        return np.concatenate(parts).reshape(-1, width) if len(parts) > 1 else parts[0].reshape(-1, width)
