"""Plans of the whole-fit kernel: what stands where, that it fits, and that a prediction is a time."""

import itertools
import subprocess

import numpy as np
import pytest
from host.runtime import COMPILER, HERE, HostRuntime
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumlp import kernel_sources, layers, losses, metrics, optimizers
from gpumlp.backends.cuda_backend import CudaBackend
from gpumlp.backends.runtime import parted
from gpumlp.engine import cost, fit_plan
from gpumlp.engine.arena import alone
from gpumlp.engine.fit_layout import Cut, Layout
from gpumlp.engine.network import describe

BACKEND = CudaBackend(HostRuntime())
BACKEND.runtime.multiprocessors = 132
SHARED = BACKEND.runtime.shared_bytes


def problem(widths, batch=20, optimizer=None, kinds=("tanh",), weighted=False, named=(), stack=None):
    """Return the Problem of dense layers from ``widths[0]`` features on; activations take turns."""
    made = stack or [layers.Dense(n, kinds[i % len(kinds)]) for i, n in enumerate(widths[1:])]
    network, loss = describe(made, (widths[0],)), losses.described("mse")
    arena = alone(network.weights, "float32", BACKEND)
    found = [
        metrics.get(name, loss=loss, target_width=widths[-1], output_width=widths[-1], weighted=weighted)
        for name in named
    ]
    made = fit_plan.problem_of(network, arena, batch, loss, found, optimizer or optimizers.Adam(), widths[-1], weighted)
    return made


WIDTHS = st.lists(st.sampled_from([1, 2, 3, 4, 5, 16, 17, 20, 31, 33, 64, 65, 256]), min_size=2, max_size=8)
PROBLEMS = st.builds(
    problem, WIDTHS, st.sampled_from([1, 2, 3, 7, 20, 64]),
    st.sampled_from([optimizers.Adam(), optimizers.SGD(), optimizers.SGD(momentum=0.9)]),
    st.sampled_from([("tanh",), ("relu", "gelu"), ("silu",)]), st.booleans(), st.sampled_from([(), ("mae", "mse")]),
)  # fmt: skip


def planned(made, group, threads, most=4, tags=True, shared=SHARED):
    return fit_plan._plan(Cut(made, group, threads, most), tags, shared, cost.ESTIMATED)


def cut_of(made, plan):
    return Cut(made, plan.group, plan.threads, plan.defines["MOST_AT_ONCE"])


def plans(made, tags=True, shared=SHARED):
    """Return all plans among which the best is chosen."""
    found = [
        planned(made, group, threads, most, tags, shared)
        for group in fit_plan._groups(made, 132)
        for most, threads in fit_plan._threads(made, group)
    ]
    return [plan for plan in found if plan is not None]


def numbers(plan, name):
    return [int(v) for v in str(plan.defines[name]).split(", ")]


# ---- shared memory ---------------------------------------------------------------------------------------------------


def up(count):
    return -(-count // 4) * 4


def arrays_of(made, plan):
    """Return every array of a block, as fit_block.cuh takes it: (name, layer, place, size, first and last use).

    A step's uses are counted on: layer l's forward pass is 2 l and 2 l + 1 (collecting), the loss comes at 2 n, and the
    way back of layer l begins at 2 n + 3 (n - 1 - l) + 1: gradient below, update, collecting.
    """
    stages, batch, group = made.stages, made.batch, plan.group
    n, ever = len(stages), (0, 10**6)
    whole = bool(plan.defines["LAST_IS_WHOLE"])
    places = {
        name: numbers(plan, name)
        for name in ("INPUTS_AT", "OWN_AT", "Z_AT", "COLUMNS_AT", "ROWS_AT", "DELTA_AT", "OWN_DELTA_AT", "RELOADS")
    }  # fmt: skip

    def back(i, part):
        return 2 * n + 3 * (n - 1 - i) + 1 + part

    yield "targets", 0, int(plan.defines["TARGETS_AT"]), 2 * batch * made.targets, ever
    yield "weights", 0, int(plan.defines["WEIGHTS_AT"]), 2 * batch, ever
    yield "logs", 0, int(plan.defines["LOGS_AT"]), plan.series * batch, ever
    yield "predictions", 0, int(plan.defines["PREDICTIONS_AT"]), batch * up(stages[-1].outputs), ever
    for i, stage in enumerate(stages):
        last = i == n - 1
        columns = stage.outputs if last and whole else -(-stage.outputs // group)
        ins, outs = up(stage.inputs), up(stage.outputs)
        yield "columns", i, places["COLUMNS_AT"][i], columns * (ins + 4), ever
        if i:
            yield "rows", i, places["ROWS_AT"][i], -(-stage.inputs // group) * outs, ever
        if stage.needs_input:
            yield "z", i, places["Z_AT"][i], batch * up(columns), ever
        if not i:
            yield "inputs", 0, places["INPUTS_AT"][0], (1 + plan.defines["AHEAD"]) * batch * ins, ever
        elif places["RELOADS"][i]:
            yield "inputs", i, places["INPUTS_AT"][i], batch * ins, (2 * i - 1, 2 * i)
            yield "inputs again", i, places["INPUTS_AT"][i], batch * ins, (back(i, 1), back(i, 1))
        else:
            yield "inputs", i, places["INPUTS_AT"][i], batch * ins, (2 * i - 1, back(i, 1))
        if group > 1 and not (last and whole):
            yield "own", i, places["OWN_AT"][i], batch * up(columns), (2 * i, back(i, 1) if last else back(i + 1, 1))
        made_at = back(i + 1, 0) if not last else 2 * n
        if group > 1 and (i or last):  # what is collected comes a little later than what is computed
            yield "delta", i, places["DELTA_AT"][i], batch * outs, (made_at + 2 * (not last), back(i, 1))
        if group == 1 or not (last and whole):
            yield "own delta", i, places["OWN_DELTA_AT"][i], batch * up(columns), (made_at, back(i, 1))


def assert_sound(made, plan):
    size = 0
    taken: list[tuple] = []
    for name, i, place, count, (start, stop) in arrays_of(made, plan):
        assert place % 4 == 0 and place >= 0, "vectors are aligned"
        size = max(size, place + count)
        for other, j, at, length, (begin, end) in taken:
            apart = place + count <= at or at + length <= place or stop < begin or end < start
            assert apart, (name, i, other, j, plan.group)
        taken.append((name, i, place, count, (start, stop)))
    assert 4 * size <= plan.shared <= SHARED


@settings(max_examples=40, deadline=None)
@given(PROBLEMS)
def test_nothing_in_shared_memory_overlaps_what_is_in_use(made):
    for plan in plans(made)[::3]:
        assert_sound(made, plan)


@pytest.mark.parametrize("widths", [(3, 17, 17, 17, 17, 17, 2), (1, 20, 33, 5, 65, 31, 18), (5, 4, 64, 64, 3, 64, 64)])
def test_inputs_come_again_where_there_is_little_room_and_then_nothing_fits(widths):
    made = problem(widths)
    for group in (2, 3, 5):
        roomy = planned(made, group, 128)
        assert not any(numbers(roomy, "RELOADS"))
        seen, shared = set(), roomy.shared
        while (plan := planned(made, group, 128, shared=shared)) is not None:
            assert plan.shared <= shared
            assert_sound(made, plan)
            reloads = numbers(plan, "RELOADS")
            assert reloads[0] == reloads[-1] == 0
            seen.add(sum(reloads))
            shared -= 64
        assert max(seen) == len(widths) - 3 and 0 in seen  # all but the first, which is kept, and the last


# ---- what fit_layout.cuh has too -------------------------------------------------------------------------------------

PROBE = """
#include "formulas.cuh"
#include "fit_layout.cuh"
#include <cstdio>
template <int L> void tell() {
    using Y = Layer<L>;
    printf("%d %d %d %d %d %d\\n", Y::COLUMNS, Y::UNITS, Y::EACH, Y::WIDE, Y::EXCHANGED, Y::WHOLE);
    if constexpr (L < LAST) tell<L + 1>();
}
int main() { tell<0>(); }
"""
SHAPES = [((3, 5, 6, 17), 3, 32, 4), ((17, 33, 65, 31, 20), 2, 128, 2), ((4, 1, 2, 3), 1, 96, 4)]


@pytest.mark.parametrize(("widths", "group", "threads", "most"), SHAPES)
def test_the_kernel_s_own_sizes_are_the_plan_s(tmp_path, widths, group, threads, most):
    made = problem(widths, kinds=("gelu", "tanh"))
    cut = Cut(made, group, threads, most)
    plan = fit_plan._plan(cut, True, SHARED, cost.ESTIMATED)
    macros, headers = parted(plan.defines)
    settings = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    for name, text in headers.items():
        (tmp_path / name).write_text(text)
    source = tmp_path / "probe.cpp"
    source.write_text(f"#define GPUMLP_HOST\n{settings}{PROBE}")
    include = [f"-I{tmp_path}", f"-I{kernel_sources.folder()}", f"-I{HERE}"]
    subprocess.run([COMPILER, "-std=c++17", "-w", *include, str(source), "-o", str(tmp_path / "probe")], check=True)
    told = subprocess.run([str(tmp_path / "probe")], check=True, capture_output=True, text=True).stdout.split()
    rows = np.array(told, int).reshape(-1, 6)
    registers = 0
    for i, (columns, units, each, wide, exchanged, whole) in enumerate(rows.tolist()):
        assert columns == cut.columns(i)
        assert units == cut.units(i)
        assert each == -(-units // threads)
        registers += each * wide * 2
        assert whole == (i == len(rows) - 1 and bool(plan.defines["LAST_IS_WHOLE"]))
        assert exchanged == cut.exchanged[i][0] == (group > 1 and not whole)
    assert registers == cut.state_registers


# ---- runs, packets, registers ----------------------------------------------------------------------------------------


def test_layers_that_are_alike_and_lie_on_alike_ones_share_their_code():
    def runs(stack):
        made = problem((3, 2), stack=stack)
        plan = planned(made, 1 + (len(stack) > 1), 64)
        return list(zip(numbers(plan, "RUN_FIRST"), numbers(plan, "RUN_COUNT"), strict=True))

    def alike(count, **how):
        return [layers.Dense(8, "tanh", **how) for _ in range(count)]

    two = layers.Dense(2)
    assert runs([two]) == [(0, 1)]
    assert runs([*alike(2), two]) == [(0, 1), (1, 1), (2, 1)]
    assert runs([*alike(3), two]) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert runs([*alike(6), two]) == [(0, 1), (1, 1), (2, 4), (6, 1)]
    assert runs([*alike(6), layers.Dense(8, "tanh")]) == [(0, 1), (1, 1), (2, 4), (6, 1)]  # the last is by itself
    assert runs([*alike(4), layers.Dense(8, "relu"), *alike(3), two]) == [
        (0, 1), (1, 1), (2, 2), (4, 1), (5, 1), (6, 2), (8, 1)
    ]  # fmt: skip
    assert runs([*alike(4), *alike(3, kernel_regularizer="l2"), two])[3:] == [(4, 1), (5, 2), (7, 1)]
    assert runs([*alike(4), *alike(3, use_bias=False), two])[3:] == [(4, 1), (5, 2), (7, 1)]
    assert runs([*alike(4), *alike(3, trainable=False), two])[3:] == [(4, 1), (5, 2), (7, 1)]


@settings(max_examples=40, deadline=None)
@given(PROBLEMS)
def test_a_plan_is_one_that_a_gpu_can_launch(made):
    stages = made.stages
    for tags in (True, False):
        for plan in plans(made, tags)[::2]:
            assert 1 <= plan.group <= 132 and 64 <= plan.threads <= 1024 and plan.threads % 32 == 0
            assert np.isfinite(plan.predicted) and plan.predicted > 0
            registers = cut_of(made, plan).state_registers
            assert (registers + fit_plan.WORKING) * plan.threads <= fit_plan.REGISTERS and registers < 255
            whole = plan.defines["LAST_IS_WHOLE"]
            exchanged = [s.outputs for s in (stages[:-1] if whole else stages)]
            if plan.group == 1:
                assert plan.half == plan.exchanges == 0
                continue
            # every block has a column of some layer, or it would be left behind (exchange.cuh)
            assert any((plan.group - 1) * -(-n // plan.group) < n for n in exchanged)
            passed_back = [s.outputs for s in stages[1:-1]]
            assert plan.exchanges == len(exchanged) + len(passed_back)
            places = numbers(plan, "FORWARD_AT")[: len(exchanged)] + numbers(plan, "BACKWARD_AT")[1:-1]
            triples = -(-made.batch // 3)
            ends = sorted((at, at + triples * n) for at, n in zip(places, exchanged + passed_back, strict=True))
            assert ends[0][0] == 0 and ends[-1][1] == plan.half
            assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(ends))


def test_the_best_plan_is_the_fastest_one_that_fits():
    made = problem((1, 256, 256, 256, 256, 256, 256, 256, 1))
    best = fit_plan.best_plan(made, BACKEND.runtime, True)
    assert best.predicted == min(plan.predicted for plan in plans(made))
    assert best.group > 1
    small = fit_plan.best_plan(problem((1, 8, 8, 1)), BACKEND.runtime, True)
    assert small.group == 1 and small.predicted < best.predicted
    many = fit_plan.best_plan(made, BACKEND.runtime, True, models=132)
    rounds = -(-132 // (132 // many.group))
    assert many.predicted * rounds <= best.predicted * -(-132 // (132 // best.group))
    assert "do not fit on the chip" in fit_plan.best_plan(problem((784, 4096, 4096, 10)), BACKEND.runtime, True)


def test_predictions_grow_with_the_work():
    def seconds(widths, batch=20, group=4, threads=256, tags=True, room=10**6, reloads=0, ahead=True):
        made = problem(widths, batch)
        cut = Cut(made, group, threads, 4)
        layout = Layout(cut, room, ahead)
        assert sum(layout.reloads) == reloads
        return cost.step_seconds(cut, layout, tags, cost.ESTIMATED)

    base = seconds((8, 64, 64, 64, 4))
    for widths in ((8, 64, 64, 64, 64, 4), (8, 64, 128, 64, 4), (64, 64, 64, 64, 4)):
        assert seconds(widths) > base
    assert seconds((8, 64, 64, 64, 4), batch=60) > base
    assert seconds((8, 64, 64, 64, 4), tags=False) > base  # a barrier costs more than a tag
    assert seconds((8, 64, 64, 64, 4), room=0, reloads=2) > base
    assert seconds((8, 64, 64, 64, 4), ahead=False) > base
    graphs = [cost.graph_seconds(problem(w), cost.ESTIMATED) for w in ((8, 64, 4), (8, 64, 64, 4), (8, 2048, 2048, 4))]
    assert 0 < graphs[0] < graphs[1] < graphs[2]


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "why"),
    [
        ([layers.Activation("linear")], "it has no Dense layer"),
        ([layers.Rescaling(2.0), layers.Rescaling(2.0), layers.Dense(2)], "it has a Rescaling layer after the first"),
        ([layers.Dense(2), layers.Dropout(0.1)], "it has a Dropout layer"),
        ([layers.Dense(2, "tanh"), layers.Activation("relu")], "it has an Activation layer that does not follow"),
        ([layers.Dense(2), layers.Activation("softmax"), layers.Dense(2)], "it has an activation over rows, such as"),
    ],
)  # fmt: skip
def test_what_is_no_network_for_the_kernel(stack, why):
    assert fit_plan.stages_of(describe(stack, (3,))).startswith(why)


def test_activation_layers_become_their_dense_layer_s():
    stack = [
        layers.Activation("linear"), layers.Dropout(0), layers.Dense(4), layers.Dropout(0), layers.Activation("linear"),
        layers.Activation("gelu"), layers.Dense(5, "tanh", use_bias=False), layers.Dense(3),
        layers.Activation("softmax"),
    ]  # fmt: skip
    stages = fit_plan.stages_of(describe(stack, (3,)))
    assert [(s.inputs, s.outputs, s.activation.name, s.kernel, s.bias) for s in stages] == [
        (3, 4, "gelu", 0, 1), (4, 5, "tanh", 2, None), (5, 3, "softmax", 3, 4)
    ]  # fmt: skip
