"""BackupAndRestore: training that was cut off goes on where it was, to the bit."""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpumlp.callbacks.base import Callback, Logs
from gpumlp.callbacks.checkpoint import Frequency, frequency
from gpumlp.distributed.agreement import agreed, by_one
from gpumlp.errors import caller_level
from gpumlp.naming import flag
from gpumlp.saving import disk
from gpumlp.saving.disk import PathLike
from gpumlp.saving.state import read_state, write_state
from gpumlp.training import randoms
from gpumlp.training.position import InProgress

FILE = "backup.gpumlp"
completed: Counter[str] = Counter()  # fits of this process that came to their end, by the folder of their backup


class BackupAndRestore(Callback):
    """Write down after each epoch all that training goes on from; a ``fit`` that finds that goes on from there.

    So a script that is killed at any moment, and started again as it is, ends with the weights, the history and the
    optimizer that it would have ended with: the file has weights, the optimizer's state, the order of samples, keys of
    dropout, the state of all callbacks (`Callback.get_state`), the history, and the random numbers of gpumlp, NumPy,
    Python and, where it is imported, torch (its default generator's).

    Batches that a generator had given are read again, and left out. Of another iterable a pass that was cut off is
    begun anew, with the random numbers with which it had begun, as far as it was read. Data that depend on more, such
    as a `PyDataset` that shuffles itself in ``on_epoch_end``, have methods ``get_state()``, which returns that (None,
    numbers, strings, arrays, lists and dicts), and ``set_state(state)``: then an iterator is not read again. A
    `PyDataset` with such hooks and without these methods has a warning when training begins.

    Parameters
    ----------
    backup_dir : str or path
        Its folder, which is made where it is not there. One ``fit`` at a time may use it. A script may have several
        fits one after the other: each has a file of its own, by the number of those that were completed before it.
    save_freq : "epoch" or int
        After how many batches of an epoch, and then at its end as well.
    double_checkpoint : bool
        Accepted as Keras has it: a file takes the place of the one before at once, so that one is always whole.
    delete_checkpoint : bool
        Whether the file is removed when training has ended; it stays where training ends by an exception.

    Raises
    ------
    ValueError
        At the beginning of training, where the file is damaged, or of another model, optimizer, loss, other metrics or
        callbacks; nothing is changed then, and the file is left as it is: remove it to begin anew. A learning rate and
        ``epochs`` may be others.
    OSError
        Where the folder or the file cannot be written; training ends, and the file before is left.

    Examples
    --------
    >>> import gpumlp
    >>> model = gpumlp.Sequential([gpumlp.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> backup = gpumlp.callbacks.BackupAndRestore("backup")
    >>> history = model.fit(
    ...     [[1.0], [2.0]], [2.0, 4.0], epochs=3, verbose=0, callbacks=backup
    ... )
    """

    def __init__(
        self, backup_dir: PathLike, save_freq: Frequency = "epoch", double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:  # fmt: skip
        if not backup_dir:
            raise ValueError(f"Empty `backup_dir` argument passed; it must be a folder's name; got {backup_dir!r}.")
        self.backup_dir = disk.path_of(backup_dir)
        self.save_freq = frequency(save_freq)
        self.double_checkpoint = flag("double_checkpoint", double_checkpoint)
        self.delete_checkpoint = flag("delete_checkpoint", delete_checkpoint)
        self.wants_batches = save_freq != "epoch"
        self._since = 0

    @property
    def path(self) -> Path:
        """Where the file is: a script's second fit has another one than its first."""
        number = completed[os.path.realpath(self.backup_dir)]
        stem, _, end = FILE.partition(".")
        return self.backup_dir / (f"{stem}-{number}.{end}" if number else FILE)

    # ---- what the loop asks for, behind all other callbacks ----------------------------------------------------------

    def resume(self, others: list[Callback], training: InProgress) -> bool:
        """Go on from the file, and return whether there is one.

        ``others`` are the callbacks that have a state, which `Callback.set_state` gives them.
        """
        self._since = 0
        for name in training.orders_itself:
            warnings.warn(
                f"{name} changes its data between epochs, and nobody can know how after a kill. Training that is cut "
                "off goes on to the bit where it has get_state(), which returns what its order depends on, and "
                "set_state(state).",
                stacklevel=caller_level(),
            )
        os.makedirs(self.backup_dir, exist_ok=True)
        self._remove_unfinished()

        def content() -> int | None:
            return zlib.crc32(self.path.read_bytes()) if self.path.exists() else None

        ranks = self.model.distributed
        if (
            agreed(
                ranks,
                "go on from a backup",
                content,
                lambda crc: {"the backup (CRC-32 of the file, which all ranks read)": crc},
            )
            is None
        ):
            return False
        found, what = read_state(self.path), str(self.path)
        position = _part(found, "position", what)
        training.check_model(position, what)
        states = position.get("callbacks")
        names = [type(each).__name__ for each in others]
        if not isinstance(states, list) or [s.get("kind") for s in states if isinstance(s, dict)] != names:
            kinds = [s.get("kind") for s in states] if isinstance(states, list) else states
            raise ValueError(f"{what} was written beside other callbacks, {kinds}; these are {names}. {AGAIN}")
        drawn = randoms.unpacked(position.get("random"), what)
        training.go_on_from(found, what)
        for each, state in zip(others, states, strict=True):
            each.set_state(state["state"])
        randoms.put(drawn)
        return True

    def batch_done(self, others: list[Callback], training: InProgress) -> None:
        """Write the file where it is time to, between two batches."""
        if self.save_freq == "epoch":
            return
        self._since += 1
        if self._since >= self.save_freq:
            self._save(others, training)

    def epoch_done(self, others: list[Callback], training: InProgress) -> None:
        """Write the file: an epoch is over, and all other callbacks have seen its end."""
        self._save(others, training)

    def _save(self, others: list[Callback], training: InProgress) -> None:
        self._since = 0
        states = [{"kind": type(each).__name__, "state": each.get_state()} for each in others]
        drawn = randoms.packed(randoms.states())
        found = training.describe({"callbacks": states, "random": drawn})
        by_one(self.model.distributed, "write a backup", lambda: write_state(self.path, found))

    def on_train_end(self, logs: Logs = None) -> None:
        if self.delete_checkpoint and self._speaks:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            with contextlib.suppress(OSError):  # other files are in it
                os.rmdir(self.backup_dir)
        completed[os.path.realpath(self.backup_dir)] += 1

    def _remove_unfinished(self) -> None:
        """Remove what a kill has left of files that were being written."""
        for left in self.backup_dir.glob(f".{self.path.name}.*.part"):
            with contextlib.suppress(OSError):
                os.unlink(left)


AGAIN = "Remove the file to begin anew."


def _part(found: Mapping[str, object], name: str, what: str) -> Mapping[str, Any]:
    part = found.get(name)
    if not isinstance(part, dict):
        raise ValueError(f"{what} is no backup of a fit: it has no {name!r}. {AGAIN}")
    return part
