"""Data that are read block by block: rows of arrays that lie elsewhere, or the row groups of Parquet files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from gpumlp.backends.runtime import Array, DType, Rows
from gpumlp.layers import whole_number
from gpumlp.maps import check_there
from gpumlp.naming import number
from gpumlp.training import data

BLOCK_BYTES = 256 << 10  # of a block, where nobody says how large: long beside its beginning, and 64 make a window
WINDOW_BYTES = 16 << 20  # of the blocks whose rows are mixed; what is no larger is read at once, and is an array then
NUMBER = 4  # bytes, of float32, as which most models take what there is
ORDER = 8  # bytes, of the number of a row

Path_: TypeAlias = str | os.PathLike[str]
Block: TypeAlias = tuple[object, object, object]  # x, y and sample weights


class Reader(Protocol):
    """What has rows, cut into blocks: block k is rows ``bounds[k]`` to ``bounds[k + 1] - 1``."""

    bounds: Rows
    row_bytes: int  # of a row, and its place in an order, when it is read

    def read(self, block: int) -> Block:
        """Return x, y and weights of a block, None for what is not there."""


class Blocks:
    """Rows that ``fit``, ``evaluate`` and ``predict`` read block by block: of data larger than memory.

    A block is some consecutive rows. With ``shuffle=True``, ``fit`` takes blocks in another order in each epoch, has
    some of them in memory, as ``shuffle_blocks`` says, and mixes their rows. Which order that is depends on the seed,
    the blocks and the epoch alone. The next blocks are read while it trains: three times ``shuffle_blocks`` blocks are
    in memory, in the model's type, and nothing grows with the number of rows.

    What has ``shape``, ``dtype`` and slices, such as a `numpy.memmap`, an array of zarr's or a data set of h5py's, may
    be passed to ``fit`` as it is: if it has more than 16 MiB, it is cut into blocks as here when nothing is said.

    Parameters
    ----------
    x : what has ``shape``, ``dtype`` and slices
        Inputs [n, *sample].
    y : likewise, optional
        Targets [n] or [n, *output].
    sample_weight : likewise, optional
        What each sample counts, [n].
    block_size : int, optional
        Rows of a block. When None: some 256 KiB of them, in whole chunks of x: one, where it is larger.
    shuffle_blocks : int, optional
        How many blocks are in memory at a time, and are mixed. When None: some 16 MiB of them, 2 at least.

    Raises
    ------
    TypeError, ValueError
        For what has no rows, or not as many as x.

    Examples
    --------
    >>> import gpumlp
    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 1000, dtype="float32")[:, None]
    >>> blocks = gpumlp.utils.Blocks(x, x**2, block_size=100, shuffle_blocks=4)
    >>> blocks
    <Blocks: 1000 rows in 10 blocks, of which 4 are mixed>
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("adam", "mse")
    >>> model.fit(blocks, batch_size=32, epochs=2, verbose=0)
    <History of 2 epochs: loss>
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, block_size: int | None = None,
        shuffle_blocks: int | None = None,
    ) -> None:  # fmt: skip
        given = {"x": x, "y": y, "sample_weight": sample_weight}
        given = {name: _rows(name, v) for name, v in given.items() if v is not None or name == "x"}
        data.same_length(**given)
        self._put(_Slices(given["x"], given.get("y"), given.get("sample_weight"), block_size), shuffle_blocks)

    @classmethod
    def from_parquet(
        cls, path: Path_ | Sequence[Path_], features: Sequence[str], target: str | Sequence[str] | None = None,
        sample_weight: str | None = None, shuffle_blocks: int | None = None,
    ) -> Blocks:  # fmt: skip
        """Return the rows of Parquet files, the row groups of which are the blocks.

        Needs pyarrow, the extra ``data``.

        Parameters
        ----------
        path : path or list of paths
            Files; of a folder all ``*.parquet`` in it, by their names. All have the same columns.
        features : list of str
            The columns that are x. One column of lists, all as long, is as many numbers; of wide data that is read
            fastest.
        target : str or list of str, optional
            The columns that are y.
        sample_weight : str, optional
            The column of weights.
        shuffle_blocks : int, optional
            How many row groups are in memory at a time, and are mixed. When None: some 16 MiB of them, 2 at least.

        Returns
        -------
        Blocks

        Raises
        ------
        ModuleNotFoundError
            Without pyarrow.
        TypeError, ValueError
            For columns that are not there, or are no numbers.
        """
        from gpumlp.training.parquet import RowGroups

        blocks = cls.__new__(cls)
        blocks._put(RowGroups(path, features, target, sample_weight), shuffle_blocks)
        return blocks

    def _put(self, reader: Reader, shuffle_blocks: int | None) -> None:
        self._reader, self.bounds = reader, reader.bounds
        rows = len(self)
        if not rows:
            raise ValueError("x is empty: it has no rows.")
        if shuffle_blocks is None:
            each = reader.row_bytes * rows / (len(self.bounds) - 1)
            shuffle_blocks = max(2, int(WINDOW_BYTES // each))
        self.shuffle_blocks = min(whole_number("shuffle_blocks", shuffle_blocks), len(self.bounds) - 1)

    def split(self, share: float) -> tuple[Blocks, Blocks]:
        """Return the first rows, and the last ones to validate with: as ``validation_split`` of ``fit`` does.

        Nothing is read. A block on both sides of the cut is read for each.

        Parameters
        ----------
        share : float
            How many are last, of all: more than 0, less than 1.

        Returns
        -------
        tuple of 2 Blocks

        Raises
        ------
        TypeError, ValueError
            For any other share, and where no row is left on a side.

        Examples
        --------
        >>> import gpumlp
        >>> import numpy as np
        >>> blocks = gpumlp.utils.Blocks(np.zeros((1000, 3)), block_size=150)
        >>> train, held_out = blocks.split(0.2)
        >>> len(train), len(held_out)
        (800, 200)
        """
        cut = data.cut_at(len(self), number("share", share, 0.0, 1.0, above=True, below=True))
        parts = []
        for first, last in ((0, cut), (cut, len(self))):
            parts.append(part := Blocks.__new__(Blocks))
            part._put(_Part(self._reader, first, last), self.shuffle_blocks)
        return parts[0], parts[1]

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __repr__(self) -> str:
        count = len(self.bounds) - 1
        if count == 1:
            return f"<Blocks: {len(self)} rows in 1 block>"
        mixed = f"of which {self.shuffle_blocks} are mixed" if self.shuffle_blocks > 1 else "each mixed by itself"
        return f"<Blocks: {len(self)} rows in {count} blocks, {mixed}>"

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        """Yield each block as it stands, as a batch: ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)``."""
        for block in range(len(self.bounds) - 1):
            x, y, weights = self.read(block)
            yield (x,) if y is None else (x, y) if weights is None else (x, y, weights)

    def read(self, block: int) -> Block:
        """Return a block.

        Parameters
        ----------
        block : int
            Which one, from 0.

        Returns
        -------
        tuple of 3
            x, y and the weights; None for what is not there.

        Raises
        ------
        IndexError
            Where there is no such block.
        RuntimeError
            Where it cannot be read any more, or has another number of rows.
        """
        if not 0 <= block < len(self.bounds) - 1:
            raise IndexError(f"block must be 0 to {len(self.bounds) - 2}; got {block}.")
        rows = int(self.bounds[block + 1] - self.bounds[block])
        try:
            found = self._reader.read(block)
        except Exception as error:
            raise RuntimeError(f"{self.named(block)} cannot be read: {error}") from error
        for name, value in zip(("x", "y", "sample_weight"), found, strict=True):
            if value is not None and len(value) != rows:  # type: ignore[arg-type]
                raise RuntimeError(
                    f"{self.named(block)} cannot be read: {name} has {len(value)} rows there now: "  # type: ignore[arg-type]
                    "the data have changed."
                )
        return found

    def named(self, block: int) -> str:
        """Return which rows a block is, in words.

        Parameters
        ----------
        block : int
            Which one, from 0.

        Returns
        -------
        str
        """
        return f"Block {block} (rows {self.bounds[block]} to {self.bounds[block + 1] - 1})"


class _Slices:
    """Blocks of equally many rows, but for the last one."""

    def __init__(self, x: Any, y: Any, weights: Any, size: int | None) -> None:
        self._given = x, _near(y), _near(weights)
        numbers = sum(math.prod(v.shape[1:]) for v in self._given if v is not None)
        self.row_bytes = NUMBER * numbers + ORDER
        if size is None:
            chunk = (getattr(x, "shards", None) or getattr(x, "chunks", None) or (1,))[0]
            chunk = chunk if type(chunk) is int else 1  # Dask has them in lists
            size = max(1, BLOCK_BYTES // self.row_bytes // chunk) * chunk
        size = whole_number("block_size", size)
        self.bounds = np.minimum(np.arange(-(-x.shape[0] // size) + 1, dtype=np.int64) * size, x.shape[0])

    def read(self, block: int) -> Block:
        rows = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
        x, y, weights = (None if v is None else _read(v[rows]) for v in self._given)
        return x, y, weights


class _Part:
    """Rows ``first`` to ``last - 1`` of what another one reads."""

    def __init__(self, reader: Reader, first: int, last: int) -> None:
        bounds = reader.bounds
        within = bounds[(bounds > first) & (bounds < last)]
        self._reader, self.row_bytes = reader, reader.row_bytes
        self.bounds: Rows = np.array([first, *within, last], np.int64) - first
        self._block = int(np.searchsorted(bounds, first, "right")) - 1  # where its own first one is
        self._begin = first - int(bounds[self._block])  # the rows of that one that are not its own

    def read(self, block: int) -> Block:
        begin = 0 if block else self._begin
        rows = slice(begin, begin + int(self.bounds[block + 1] - self.bounds[block]))
        x, y, weights = (None if v is None else v[rows] for v in self._reader.read(self._block + block))  # type: ignore[index]
        return x, y, weights


def _near(value: Any) -> Any:
    """Return targets or weights as an array where they are few: to ask for a part of them takes as long as of x."""
    if not _lies_elsewhere(value) or NUMBER * math.prod(value.shape) > WINDOW_BYTES or isinstance(value, np.ndarray):
        return value
    return np.asarray(value[0 : value.shape[0]])


def _read(rows: Any) -> Array:
    check_there(rows)
    return np.asarray(rows)


def _rows(name: str, value: Any) -> Any:
    """Return what can be cut into blocks; raise for anything else."""
    if data.on_gpu(value):
        raise TypeError(f"{name} is on a GPU already; blocks are read from elsewhere. Pass it to fit as it is.")
    if not _has_rows(value):
        raise TypeError(f"{name} must have shape, dtype and slices, as arrays have; got {data.kind(value)}.")
    if not _lies_elsewhere(value):
        return data.to_array(name, value)  # a slice of pandas's goes by labels
    if value.dtype.kind not in "biuf":
        data.to_array(name, np.empty((1, 1), value.dtype))  # which says what to do
    return value


def _has_rows(value: Any) -> bool:
    ways = "shape", "dtype", "__getitem__"
    return all(hasattr(value, way) for way in ways) and len(value.shape) > 0 and hasattr(value.dtype, "kind")


def _lies_elsewhere(value: Any) -> bool:
    """Whether these are rows that are not in memory yet: of a file that is mapped, or that slices are read of."""
    if type(value) is np.ndarray or value is None:
        return False
    if isinstance(value, np.ndarray):
        return isinstance(value, np.memmap)
    in_memory = "__array_interface__", "__dlpack__", "to_numpy", "nnz"  # which a sparse matrix has
    return _has_rows(value) and not any(hasattr(value, way) for way in in_memory) and not data.on_gpu(value)


def check_held(what: str, **given: Any) -> None:
    """Raise TypeError for rows that lie elsewhere and would have to be read into memory as a whole, if they are many.

    A file that is mapped is NumPy's array already, and is taken as one.
    """
    for name, value in given.items():
        there = _lies_elsewhere(value) and not isinstance(value, np.ndarray)
        if there and (size := math.prod(value.shape) * value.dtype.itemsize) > WINDOW_BYTES:
            raise TypeError(
                f"{what} takes arrays that are in memory; {name} is a {type(value).__name__} of {size >> 20} MiB, "
                f"which lies elsewhere. If there is room for it, pass numpy.asarray({name}); else fit a model without "
                "an executor, which reads it in blocks."
            )


class Given(NamedTuple):
    """What a person passes as data."""

    x: object
    y: object = None
    weights: object = None


def cut(given: Block, dtype: DType, shuffle: bool) -> Given:
    """Return as Blocks what lies elsewhere and is too much to be held, if ``shuffle`` or conversion would need as much.

    All else as it is: also a file that is mapped and has what a Program takes, of which no order is held.
    """
    x = given[0]
    if not any(map(_lies_elsewhere, given)) or (data.gives_batches(x) and not _has_rows(x)):
        return Given(*given)
    names = "x", "y", "sample_weight"
    arrays: Any = {name: v for name, v in zip(names, given, strict=True) if v is not None}
    arrays = {name: v if _has_rows(v) else data.to_array(name, v) for name, v in arrays.items()}
    given, there = Given(*map(arrays.get, names)), list(arrays.values())
    if not all(map(_has_rows, there)):
        return given
    data.same_length(**arrays)
    total = sum(NUMBER * math.prod(v.shape) for v in there) + ORDER * there[0].shape[0]
    if total <= WINDOW_BYTES:
        return given
    if not shuffle and all(_is_taken(v, dtype) for v in there):
        return given
    return Given(Blocks(*given))


def _is_taken(value: object, dtype: DType) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.flags.c_contiguous


def files(path: Path_ | Sequence[Path_]) -> list[Path]:
    """Return the files that a path, or several, mean: of a folder its Parquet files."""
    given = [path] if isinstance(path, str | os.PathLike) else list(path)
    found = [f for p in map(Path, given) for f in (sorted(p.glob("*.parquet")) if p.is_dir() else [p])]
    if not found:
        raise ValueError(f"There is no Parquet file: got {path!r}.")
    return found
