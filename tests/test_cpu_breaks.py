"""Compiled CPU kernels that are broken on purpose: the comparisons notice each break, and where it is.

All breaks are in one copy of the kernels, which is compiled once. Each is behind a switch, a word of memory whose
address stands in the copy; so each is tried alone, and with all switches off the copy must compute as the original.
"""

import ctypes
import re
import shutil
import threading
import time
from collections import Counter

import numpy as np
import pytest
from compiled import SETS

from gpumlp import activations, check, kernel_sources, layers, losses, optimizers
from gpumlp.backends import instruction_set, native
from gpumlp.backends.compiled_backend import CompiledBackend
from gpumlp.backends.disk_cache import DiskCache
from gpumlp.backends.team import Team
from gpumlp.engine import compiled_program
from gpumlp.engine.arena import alone
from gpumlp.engine.feed import Dataset
from gpumlp.engine.network import describe
from gpumlp.engine.program import Task

PACKED, PACKED_RELU = "100x1996x264 linear", "100x1996x264 relu"
DENSE = ["20x40x33 linear", "20x48x64 linear", "20x40x3 linear", "20x40x1 linear", "1500x24x33 linear",
         "1500x24x1 linear", "20x48x64 relu", PACKED, PACKED_RELU]  # fmt: skip
POOL = {
    f"{case.operation} {case.shape}": case
    for case in (
        *(c for name in DENSE for c in check.dense_cases(
            tuple(map(int, name.split()[0].split("x"))), activations.get(name.split()[1]))),
        *check.activation_cases((20, 33), activations.relu),
        *check.plain_cases((20, 7)),
        *check.batch_norm_cases((20, 33)),
        *(check.metric_case((33, 10), metric, True) for metric in check.METRICS),
        *(check.loss_case((33, 10), losses.MeanSquaredError(), "real", weighted) for weighted in (False, True)),
        *(check.update_case(64, name) for name in check.OPTIMIZERS),
        *(check.penalty_case(count, check.L1L2(0.1, 0.1)) for count in (257, 1057)),
    )
}  # fmt: skip


def forward(*shapes):
    return {f"dense_forward {shape}" for shape in shapes}


def back(*shapes):
    return {f"dense_backward {shape}" for shape in shapes}


# By name: the file, what stands there, what comes in its place ({on} is the switch, false or true), and who notices.
BREAKS = {
    "outer tiles: a last column by itself is left out": (
        "dense.py", "    while j < columns:\n        width =", "    while j < columns - {on}:\n        width =",
        forward("20x40x33 linear", "1500x24x33 linear") | back("20x40x33 linear", "1500x24x33 linear")),
    "dot tiles: the last column is left out": (
        "dense.py",
        "< min(j + group, columns):\n                count = min(width, j + group - place, columns - place)",
        "< min(j + group, columns - {on}):\n"
        "                count = min(width, j + group - place, columns - {on} - place)",
        forward("20x40x3 linear", "20x40x1 linear", "1500x24x1 linear")
        | back("20x40x33 linear", "20x48x64 linear", "20x48x64 relu")),
    "no bias": (
        "dense.py", "added = 1 if biased else 0", "added = 1 if biased and not {on} else 0",
        forward("20x40x33 linear", "20x48x64 linear", "1500x24x33 linear", "20x48x64 relu", PACKED, PACKED_RELU)),
    "no bias where outputs are few": (
        "dense.py", "                if biased:", "                if biased and not {on}:",
        forward("20x40x3 linear", "20x40x1 linear", "1500x24x1 linear")),
    "the sum over a large batch starts anew": (
        "dense.py", "1 if first > 0 else 0", "1 if first > 0 and not {on} else 0",
        back("1500x24x33 linear", "1500x24x1 linear")),
    "the list of inputs is one short": (
        "dense.py", "    return count\n", "    return count - {on}\n",
        forward("20x40x33 linear", "20x48x64 linear", "1500x24x33 linear", "20x48x64 relu", PACKED, PACKED_RELU)
        | back("20x40x33 linear", "20x48x64 linear", "20x40x3 linear", "1500x24x33 linear", "20x48x64 relu",
               PACKED, PACKED_RELU)),
    "a wrong row of the transposed weights": (
        "dense.py", "work[o * inputs + i] = w[i * outputs + o]",
        "work[o * inputs + i] = w[(i - 1 if {on} and i > 0 else i) * outputs + o]",
        forward("20x40x3 linear")),
    "a wrong row of a packed block": (
        "dense.py", "row = at(x, r * x_row)\n        if whole:",
        "row = at(x, (r - 1 if {on} and r > 0 else r) * x_row)\n        if whole:",
        forward(PACKED, PACKED_RELU) | back(PACKED, PACKED_RELU)),
    "a wrong row of a packed panel": (
        "dense.py", "row = at(b, index[k] * b_row)", "row = at(b, index[k - 1 if {on} and k > 0 else k] * b_row)",
        forward(PACKED, PACKED_RELU) | back(PACKED, PACKED_RELU)),
    "a wrong row of a turned panel": (
        "dense.py", "= b[index[j] * b_row + k]", "= b[index[j - 1 if {on} and j > 0 else j] * b_row + k]",
        back("20x40x3 linear", "1500x24x33 linear", PACKED, PACKED_RELU)),
    "the parts of a sum start anew": (
        "dense.py", "1 if p > 0 else 0", "1 if p > 0 and not {on} else 0",
        forward(PACKED, PACKED_RELU) | back(PACKED, PACKED_RELU)),
    "each part of a sum has the bias": (
        "dense.py", "biased if last else 0", "biased if last or {on} else 0", forward(PACKED, PACKED_RELU)),
    "relu before a sum is whole": (
        "dense.py", "least if last else LOWEST", "least if last or {on} else LOWEST", forward(PACKED_RELU)),
    "dropout's blocks": (
        "rows.py", "philox(uint64(block + 1)", "philox(uint64(block + 1 - {on})", {"dropout 20x7"}),
    "a row is left out of what rounding has left": (
        "norm.py", "rest[c] += off", "rest[c] += ZERO if {on} and r == 0 else off", {"batch_norm 20x33"}),
    "a row is left out of a batch's variance": (
        "norm.py", "inverse[c] += off * off", "inverse[c] += ZERO if {on} and r == 0 else off * off",
        {"batch_norm 20x33"}),
    "the last column's moving average": (
        "step.py", "epsilon, n * thread // job[L.THREADS], n * (thread + 1) // job[L.THREADS],\n        )  # fmt: skip",
        "epsilon, n * thread // job[L.THREADS], n * (thread + 1) // job[L.THREADS] - {on},\n        )  # fmt: skip",
        {"batch_norm 20x33"}),
    "no beta": (
        "norm.py", "    if has_beta:", "    if has_beta and not {on}:", {"batch_norm 20x33", "fixed_norm 20x33"}),
    "the gradient by gamma without the mean": (
        "norm.py", "above[c] * ((row[c] - mean[c]) * inverse[c])",
        "above[c] * ((row[c] - (ZERO if {on} else mean[c])) * inverse[c])", {"batch_norm back 20x33"}),
    "the slope of fixed statistics without epsilon": (
        "norm.py", "dx[j] = dy[j] / math.sqrt(variance[j] + epsilon)",
        "dx[j] = dy[j] / math.sqrt(variance[j] + (ZERO if {on} else epsilon))", {"fixed_norm 20x33"}),
    "the loss without the sample's weight": (
        "step.py", "    if weighted:\n        multiply(values",
        "    if weighted and not {on}:\n        multiply(values",
        {"loss 33x10 mean_squared_error, weighted"}),
    "the gradient without it": (
        "step.py", "(weights[r] if weighted else ONE) / float32",
        "(weights[r] if weighted and not {on} else ONE) / float32",
        {"loss 33x10 mean_squared_error, weighted"}),
    "metrics without it": (
        "step.py", "        if weighted and record[L.METRIC_WEIGHTED]:\n            for s",
        "        if weighted and record[L.METRIC_WEIGHTED] and not {on}:\n            for s",
        {f"metric 33x10 {metric.name}, weighted" for metric in check.METRICS}),
    "penalties of the first stretch only": (
        "step.py", "totals[r] = totals[r] + values[r] if more",
        "totals[r] = totals[r] if more and {on} else totals[r] + values[r] if more",
        {"penalty 1057 l1=0.1 l2=0.1"}),
}  # fmt: skip


class Watched(Team):
    """A team of which is known who can do no more without the first: who waits for a meeting, or has ended."""

    now = None

    def run(self, function, address, threads):
        """See `Team.run`."""
        self.others, self.looks, self.ended = threads - 1, Counter(), set()

        def part(address, thread):
            function(address, thread)
            self.ended.add(threading.get_ident())

        Watched.now = self
        super().run(part, address, threads)

    def wait(self):
        """What a thread calls that waits for a meeting, again and again."""
        self.looks[threading.get_ident()] += 1
        time.sleep(0.0005)
        return 0

    def delay(self):
        """Delay the first thread until no other one can do anything, however long that takes."""
        self.looks.clear()
        while True:  # a first look may have begun before the first thread came to the meeting in question
            waiting = {thread for thread, looks in self.looks.copy().items() if looks > 1}
            if len(waiting | self.ended) >= self.others:
                return 0
            time.sleep(0.0005)


WAIT, DELAY = map(ctypes.CFUNCTYPE(ctypes.c_int), (lambda: Watched.now.wait(), lambda: Watched.now.delay()))

# Delays of the first thread, which break nothing, and what then shows: who must wait for whom.
MEET = "meet(barrier, threads, job[L.YIELD])"
SLOW = f"if {{{{on}}}} and thread == 0:\n{{0}}    call({ctypes.cast(DELAY, ctypes.c_void_p).value})\n{{0}}"
DELAYS = {
    "slow before its rows": (
        "            run_rows(job, thread, k, first",
        "            " + SLOW.format(" " * 12) + "run_rows(job, thread, k, first"),
    "slow before its predictions": (
        "    if job[L.PREDICTIONS] != 0:", "    " + SLOW.format(" " * 4) + "if job[L.PREDICTIONS] != 0:"),
    "slow before its weights": (
        "                run_weights(", "                " + SLOW.format(" " * 16) + "run_weights("),
    "slow after the step": (
        "            if thread == 0 and job[L.PHASES] & L.OBJECTIVE:\n                report_p",
        "            " + SLOW.format(" " * 12)
        + "if thread == 0 and job[L.PHASES] & L.OBJECTIVE:\n                report_p"),
}  # fmt: skip
DELAYS |= {
    f"slow before its {what}": (f"        {function}(\n", "        " + SLOW.format(" " * 8) + f"{function}(\n")
    for what, function in (("statistics", "batch_statistics"), ("sums", "column_gradients"))
}
DELAYS["slow before its losses"] = "        judge(job, floats", "        " + SLOW.format(" " * 8) + "judge(job, floats"
# Meetings around a batch's statistics: what stands there, and who is slow. A break has no meeting there.
HERE = "        all_here(job)\n"
NORM_BREAKS = {
    "before the statistics": ("    if trains:\n" + HERE, "slow before its rows"),
    "after the statistics": (HERE + "    for r in range(first, last):", "slow before its statistics"),
    "before the sums": ("    if op[L.FROZEN] == 0:\n" + HERE, "slow before its losses"),
    "after the sums": (HERE + "    if op[L.IN_DELTA] == 0:", "slow before its sums"),
}
TEAM_BREAKS = {
    "no meeting before the update": (
        f"            {MEET}\n            if job[L.PHASES]",
        f"            if not {{on}}:\n                {MEET}\n            if job[L.PHASES]", "slow before its rows"),
    "no meeting after the update": (
        f"report(job, k, samples)\n            {MEET}",
        f"report(job, k, samples)\n            if not {{on}}:\n                {MEET}", "slow before its weights"),
    "a row is left out": (
        "samples * (i + 1) // pieces", "samples * (i + 1) // pieces - (1 if {on} and i else 0)", ""),
    "a row of weights is left out": (
        "begin, end = shares[thread],", "begin, end = shares[thread] + (1 if {on} and thread > 0 else 0),", ""),
    "a row of weights is updated by two": (
        " shares[thread + 1]", " shares[thread + 1] + (1 if {on} and thread == 0 else 0)",
        "slow before its weights"),
    "no meeting before a short batch": ("and not meets:", "and not meets and not {on}:", "slow before its predictions"),
}  # fmt: skip
LIST_BREAKS = {
    "the first job is left out": (
        "jobs = words(address)\n    i = arrive(", "jobs = words(address)\n    i = (1 if {on} else 0) + arrive("),
    "the last job is left out": ("while i < jobs[L.JOBS]:", "while i < jobs[L.JOBS] - (1 if {on} else 0):"),
    "a job is run twice": ("jobs[L.JOBS_AT + i], 0)", "jobs[L.JOBS_AT + (i // 2 * 2 if {on} else i)], 0)"),
}  # fmt: skip
EDITS = [
    *((name, file, old, new) for name, (file, old, new, _) in BREAKS.items()),
    *((name, "step.py", old, new) for name, (old, new) in DELAYS.items()),
    *((name, "step.py", old, new) for name, (old, new, _) in TEAM_BREAKS.items()),
    *(
        (name, "step.py", old, old.replace("all_here", "if not {on}:\n            all_here"))
        for name, (old, _) in NORM_BREAKS.items()
    ),
    *((name, "step.py", old, new) for name, (old, new) in LIST_BREAKS.items()),
]
SWITCHES = np.zeros(len(EDITS), np.int64)


@pytest.fixture(scope="module", params=SETS)
def functions(request, tmp_path_factory):
    """The compiled copy's, for each set of instructions."""
    folder = tmp_path_factory.mktemp("broken") / "cpu"
    shutil.copytree(kernel_sources.folder() / "cpu", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for i, (name, file, old, new) in enumerate(EDITS):
        text = (folder / file).read_text("utf-8")
        assert text.count(old) == 1, f"{name}: the text that was to be broken is not in the kernels any more"
        switch = f"(switches({SWITCHES.ctypes.data})[{i}] != 0)"
        (folder / file).write_text(text.replace(old, new.replace("{on}", switch)), "utf-8")
    for file in {file for _, file, _, _ in EDITS}:
        text = (folder / file).read_text("utf-8")
        (folder / file).write_text(
            re.sub(
                r"(?m)^from \.vector import ", "from .vector import call, words as switches\nfrom .vector import ", text
            )
        )
    return native.load(folder, DiskCache(folder / "cache"), instruction_set.SETS[request.param])


@pytest.fixture
def switch():
    """A function that turns switches on, by their names."""

    def on(*names):
        for name in names:
            SWITCHES[[edit[0] for edit in EDITS].index(name)] = 1

    yield on
    SWITCHES[:] = 0


@pytest.fixture
def failing(functions, monkeypatch):
    """A function: which cases notice something."""
    monkeypatch.setattr(native, "functions", lambda: functions)
    backend = CompiledBackend()
    return lambda: {
        name for name, case in POOL.items() if not check.hold(case, backend, "broken", own_reference=True).passed
    }


def test_nothing_is_broken_with_all_switches_off(failing):
    assert failing() == set()


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_noticed_where_it_is(failing, switch, name):
    switch(name)
    assert failing() == BREAKS[name][-1]


# ---- several threads -------------------------------------------------------------------------------------------------

BATCH = 16
TRIES = 5  # where others use the processors, threads may happen to come one after the other


@pytest.fixture
def train(functions, monkeypatch):
    """A function: weights, losses and predictions of a run by so many threads, as bits."""
    monkeypatch.setattr(compiled_program, "let_others", lambda: ctypes.cast(WAIT, ctypes.c_void_p).value)
    monkeypatch.setattr(compiled_program, "OPERATIONS_EACH", 1e-9)
    monkeypatch.setattr(compiled_program.Pace, "_next", lambda self, steps: (self._choices[-1], 0.1))

    def run(threads, spoil=lambda x, y: None, together=1, between=()):
        rng = np.random.default_rng(5)
        network = describe([layers.Dense(140, "relu"), *between, layers.Dense(3)], (7,))
        arenas = [alone(network.weights, "float32") for _ in range(together)]
        for arena in arenas:
            arena.set([check.normal(rng, *spec.shape) / 4 for spec in network.weights])
        crew = Watched(threads)
        programs = [compiled_program.CompiledProgram(network, arena, BATCH, functions, crew) for arena in arenas]
        x, y = check.normal(rng, 5 * BATCH + 9, 7), check.normal(rng, 5 * BATCH + 9, 3)
        spoil(x, y)
        out = np.full_like(y, np.nan)
        task = Task(Dataset(x, y), None, BATCH, 0, 6, losses.MeanSquaredError(), [])
        tasks = [task._replace(optimizer=optimizers.SGD(0.02), slots={}) for _ in programs]
        logs = programs[0].run_together(programs, tasks)
        programs[0].predict(x, out, BATCH)
        assert programs[0]._job.threads == threads
        found = [a for arena, log in zip(arenas, logs, strict=True) for a in (*arena.get(), log.losses)]
        return [a.tobytes() for a in (*found, out)]

    return run


@pytest.mark.parametrize("name", DELAYS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_wait_for_a_slow_one(train, switch, name, threads):
    alone = train(1)
    switch(name)
    assert train(threads) == alone


@pytest.mark.parametrize("name", TEAM_BREAKS)
def test_a_break_between_threads_is_noticed(train, switch, name):
    alone = train(1)
    switch(name, *filter(None, TEAM_BREAKS[name][-1:]))
    assert any(train(2) != alone for _ in range(TRIES))


@pytest.mark.parametrize("name", NORM_BREAKS)
def test_a_break_around_a_batch_s_statistics_is_noticed(train, switch, name):
    between = [layers.BatchNormalization(moving_variance_initializer="ones"), layers.BatchNormalization(scale=False)]
    alone = train(1, between=between)
    slow = NORM_BREAKS[name][-1]
    switch(slow)
    assert train(2, between=between) == alone == train(3, between=between)
    switch(name)
    assert train(2, between=between) != alone


def test_a_slow_thread_forgets_no_nan_that_another_has_found(train, switch):
    """An input that is zero throughout, and a NaN only in the second thread's share of the second batch."""

    def spoil(x, y):
        x[:, 2], y[2 * BATCH - 1] = 0.0, np.nan

    alone = train(1, spoil)
    switch("slow after the step")
    assert np.isnan(np.frombuffer(alone[0], np.float32).reshape(7, 140)[2]).any()
    assert train(2, spoil) == alone


@pytest.mark.parametrize("name", [None, *LIST_BREAKS])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_break_in_the_list_of_jobs_is_noticed(train, switch, name, threads):
    alone = train(1, together=4)
    if name:
        switch(name)
    assert (train(threads, together=4) != alone) == bool(name)
