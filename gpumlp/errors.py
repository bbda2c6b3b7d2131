"""What goes wrong, as errors of their own; each is also of the built-in kind that people catch."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from gpumlp.naming import listing

__all__ = [
    "DeadUnitsWarning",
    "DeviceMemoryError",
    "DeviceUnavailable",
    "InputScaleWarning",
    "KernelError",
    "NonFiniteLossWarning",
    "NotAdaptedWarning",
    "NotTrained",
    "SearchFailed",
    "SearchInterrupted",
    "TargetScaleWarning",
    "TrainingWarning",
    "Uncompiled",
    "UnknownArgument",
]
__dir__ = listing(__name__)

PACKAGE = str(Path(__file__).parent)
INSTALL = "Install gpumlp with the extra for your driver: pip install 'gpumlp[cuda13]' (or 'gpumlp[cuda12]')."


class DeviceUnavailable(RuntimeError):
    """A device that was asked for cannot be used; the message says why, and what to do."""


class Uncompiled(DeviceUnavailable):
    """A formula did not come with the package, and its compiler is not installed."""


class DeviceMemoryError(MemoryError):
    """The device's memory is full. The model and its weights are what they were.

    Parameters
    ----------
    asked : int
        Bytes for which there was no room.
    free, total : int, optional
        Bytes that were free, and that the device has, where that is known.
    """

    def __init__(self, asked: int, free: int | None = None, total: int | None = None) -> None:
        self.asked, self.free, self.total = asked, free, total
        state = "" if free is None or total is None else f"; {_size(free)} of {_size(total)} are free"
        super().__init__(
            f"The device has no room for another {_size(asked)}{state}. The model's weights are kept. "
            "Use a smaller batch_size or fewer units, free other arrays on the device, or compile with device='cpu'."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.asked, self.free, self.total), vars(self)


class KernelError(RuntimeError):
    """A kernel did on the device what it must not; the message has the operation's name and the device's words."""


class UnknownArgument(TypeError, ValueError):
    """An argument that there is not, with the nearest that there is: as Python says it, and as Keras does of layers."""


class NotTrained(RuntimeError):
    """Workers have not trained some members of an ensemble; these are what they were, and the others are trained.

    Parameters
    ----------
    reasons : dict of exception by int
        What has ended the training of each member, by its number.

    Attributes
    ----------
    members : list of int
        Their numbers: ``ensemble.fit(..., members=error.members)`` trains them.
    reasons : dict of exception by int
        As given.
    """

    def __init__(self, reasons: Mapping[int, BaseException]) -> None:
        self.reasons, self.members = dict(sorted(reasons.items())), sorted(reasons)
        told: dict[str, list[str]] = {}
        for k, error in self.reasons.items():
            told.setdefault(in_words(error), []).append(str(k))
        each = " ".join(f"Member{'s' * (len(of) > 1)} {', '.join(of)}: {words}" for words, of in told.items())
        super().__init__(
            f"Some members were not trained. {each} The others are trained: ensemble.fit(..., members={self.members}) "
            "goes on with these, which are where they were, by another executor or by none."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reasons,), vars(self)


class SearchFailed(RuntimeError):
    """No model of a search could be trained, or judged; or the best one could not be trained on all samples.

    Parameters
    ----------
    result : SearchResult
        What there is. Its ``failed`` has the reason of each failure.
    words : str
        Which of these it is, and why.
    """

    def __init__(self, result: object, words: str) -> None:
        self.result, self._words = result, words
        super().__init__(f"{words} The exception's result has all.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result, self._words), vars(self)


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C has ended a search.

    Parameters
    ----------
    result : SearchResult
        With what was done: ``gpumlp.search(..., resume=error.result)`` does the rest.
    """

    def __init__(self, result: object) -> None:
        self.result = result
        super().__init__("The exception's result has what was done: gpumlp.search(..., resume=result) does the rest.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.result,), vars(self)


class TrainingWarning(UserWarning):
    """Training goes wrong: base of what a person is told of it. `gpumlp.config.set_advice` silences all of it."""


class NonFiniteLossWarning(TrainingWarning):
    """The loss became NaN or infinite."""


class DeadUnitsWarning(TrainingWarning):
    """Most relus of a layer were 0 for all of the samples that were looked at."""


class InputScaleWarning(TrainingWarning):
    """Inputs are of sizes far from 1, or far from each other."""


class TargetScaleWarning(TrainingWarning):
    """A regression's targets are far from what the model gives: for long it learns their scale alone."""


class NotAdaptedWarning(InputScaleWarning):
    """A Normalization leaves its inputs as they are: it has seen no data."""


def in_words(error: BaseException) -> str:
    """Return what an error says, its notes too, as sentences."""
    words = (f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
    return " ".join(each if each.endswith((".", "?", "!")) else f"{each}." for each in words)


def caller_level() -> int:
    """Return the ``stacklevel`` by which a warning given in the calling function points to who called the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


_said: set[str] = set()


def warn_once(topic: str, message: str) -> None:
    """Warn of something that will not be used although it is there, once in a process for each topic."""
    if topic not in _said:
        _said.add(topic)
        warnings.warn(message, stacklevel=caller_level())


def note_once(message: str) -> None:
    """Write a line to the logger "gpumlp", which shows it on standard error: once in a process."""
    if message not in _said:
        _said.add(message)
        import logging  # which takes 2 ms

        logging.getLogger("gpumlp").warning(message)


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
