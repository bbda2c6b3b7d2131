"""Device time: of contenders, side by side, L2 flushed, the host ahead of the device; of rounds within a launch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import environment  # noqa: F401, its settings come before the libraries
import numpy as np
from launcher import Kernels

Work = Callable[[], Any]
LEAST, MOST = 5, 30  # rounds
SMALLEST_FLUSH = 64 << 20  # bytes, where the driver does not tell the size of L2
NORMALS = (1 << 24) - 3  # drawn once; no power of two, so that rows of a larger matrix are not repeated as rows
STRIDE = 1_000_003  # between the places where arrays of different seeds begin
WITHIN, CHECKED, REPEATS = 2000, 64, 9  # rounds within a timed launch, and within one that is verified; timed launches


@functools.cache
def _normals() -> Any:
    import cupy

    return cupy.asarray(np.random.default_rng(0).standard_normal(NORMALS, np.float32))


def normal(shape: tuple[int, ...], seed: int) -> Any:
    """Return a device array of normal numbers, mean 0: random digits cost power, and so clock, where zeros do not.

    Drawn by NumPy, so that no library of random numbers is needed on the device.
    """
    import cupy

    out = cupy.empty(shape, cupy.float32)
    flat, pool, start, done = out.reshape(-1), _normals(), seed * STRIDE % NORMALS, 0
    while done < flat.size:
        count = min(flat.size - done, NORMALS - start)
        flat[done : done + count] = pool[start : start + count]
        done, start = done + count, 0
    return out


class Timer:
    """Times work on CuPy's current stream, which is the device's default one and so PyTorch's too."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self.kernels = Kernels()
        self._spin = self.kernels.function("spin")
        l2 = int(cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"])
        self._flush = cupy.empty(max(2 * l2, SMALLEST_FLUSH) // 4, cupy.float32)

    def spin(self, seconds: float) -> None:
        """Keep the device busy for so long."""
        self.kernels.launch(self._spin, 1, 1, [np.int64(seconds * 1e9)])

    def once(self, work: Work, ahead: float) -> Any:
        """Queue one timed call behind ``ahead`` seconds of idling and a flush; return its two events.

        By the time the device comes to the first event, the host has queued all of the work: what is measured is the
        device's time, not the host's.
        """
        events = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        self.spin(ahead)
        self._flush.fill(0.0)
        events[0].record()
        work()
        events[1].record()
        return events

    def rounds(self, contenders: dict[str, Work], seconds: float) -> dict[str, list[float]]:
        """Return microseconds of every contender, one a round, for about so many seconds of rounds.

        Every contender is warmed up first. The order turns by one from round to round, so that nobody always follows
        the same neighbour.
        """
        ahead = {}
        for name, work in contenders.items():
            work()  # compiles, allocates
            self._cupy.cuda.runtime.deviceSynchronize()
            began = time.perf_counter()
            work()
            ahead[name] = 1.5 * (time.perf_counter() - began) + 50e-6
            self._cupy.cuda.runtime.deviceSynchronize()
        names, times = list(contenders), {name: [] for name in contenders}  # type: ignore[var-annotated]
        began, number = time.perf_counter(), 0
        while number < LEAST or (number < MOST and time.perf_counter() - began < seconds):
            turn = number % len(names)
            events = {name: self.once(contenders[name], ahead[name]) for name in names[turn:] + names[:turn]}
            self._cupy.cuda.runtime.deviceSynchronize()
            for name, pair in events.items():
                times[name].append(self._cupy.cuda.get_elapsed_time(*pair) * 1e3)
            number += 1
        return times


def per_round(launch: Callable[[int], None], reset: Callable[[], None]) -> list[float]:
    """Return microseconds a round of a kernel that repeats its work, from several launches."""
    import cupy

    times = []
    for repeat in range(REPEATS + 1):
        reset()
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        launch(WITHIN)
        end.record()
        end.synchronize()
        if repeat:  # the first one warms up
            times.append(cupy.cuda.get_elapsed_time(begin, end) * 1e3 / WITHIN)
    return times


def checked_rounds(run: Callable[[int, Any, Any], None], reset: Callable[[], None], count: int) -> list[float]:
    """Return microseconds a round of ``run(rounds, values[count], failures)``; RuntimeError where it is not right.

    Every round must add 1 to every value.
    """
    import cupy

    start = np.random.default_rng(0).integers(0, 1000, count).astype(np.float32)
    values, failures = cupy.asarray(start), cupy.zeros(1, cupy.uint32)
    reset()
    run(CHECKED, values, failures)
    if int(failures[0]) or not np.array_equal(values.get(), start + CHECKED):
        raise RuntimeError("values were lost or late")
    times = per_round(lambda rounds: run(rounds, values, failures), reset)
    if int(failures[0]):
        raise RuntimeError("blocks waited in vain")
    return times
