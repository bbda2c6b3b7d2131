"""The CUDA C++ kernels, operation by operation: executed on the host, where everything is out to break them.

`gpumlp.check` holds the cases, their truth and their bounds. Kernels that are broken on purpose show that it notices.
"""

import numpy as np
import pytest
from host.runtime import HostKernelError, HostRuntime, broken

from gpumlp import activations, check
from gpumlp.backends.cuda_backend import TILES, CudaBackend, slope_apart
from gpumlp.backends.numpy_backend import NumpyBackend


def label(case):
    return f"{case.operation}: {case.shape}"


def assert_holds(case, backend, **how):
    result = check.hold(case, backend, backend.name, **how)
    assert result.passed, f"{label(case)}: {result.error:.3g} times its bound at {result.worst}"


@pytest.mark.parametrize("tile", [None, *TILES])
@pytest.mark.parametrize("shape", check.SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_dense_layers_of_every_shape_with_every_tile(runtime, shape, tile):
    backend = CudaBackend(runtime)
    backend.tile = tile
    for case in check.dense_cases(shape, activations.relu):
        assert_holds(case, backend)


@pytest.mark.parametrize("tile", ["small", "large"])  # where the slope is applied as dy is read, and where apart
def test_dense_layers_with_every_activation(runtime, tile):
    backend = CudaBackend(runtime)
    backend.tile = tile
    for case in check.dense_sweep([(64, 128, 96)]):  # all of it in whole vectors
        assert_holds(case, backend)


@pytest.mark.parametrize("case", [*check.other_cases(small=False)], ids=label)
def test_every_other_operation(runtime, case):
    assert_holds(case, CudaBackend(runtime))


@pytest.mark.parametrize("case", [*check.dense_sweep(check.SHAPES), *check.other_cases(small=False)], ids=label)
def test_numpy_itself_in_float32(case):
    result = check.hold(case, NumpyBackend(), "numpy", own_reference=True)
    assert result.passed, f"{result.error:.3g} times its bound at {result.worst}"


@pytest.mark.parametrize("tile", TILES)
def test_the_batch_is_split_where_weights_are_few(runtime, tile):
    backend = CudaBackend(runtime)
    backend.tile = tile
    assert backend._split(TILES[tile], 2000, 4, 9)[0] > 1
    for case in check.dense_cases((2000, 3, 9), activations.tanh):
        assert_holds(case, backend)


def test_inputs_that_are_not_contiguous_and_not_aligned(runtime):
    rng = np.random.default_rng(1)
    backend = CudaBackend(runtime)
    wide, w = check.normal(rng, 40, 64), check.normal(rng, 64, 32)
    there, weights = backend.to_device(wide), backend.to_device(w)
    y = backend.empty((20, 32), np.float32)
    backend.dense_forward(there[::2], weights, None, activations.linear, y)
    np.testing.assert_allclose(backend.to_host(y), wide[::2] @ w, rtol=1e-4, atol=1e-5)
    flat = backend.to_device(check.normal(rng, 20 * 64 + 1))
    shifted = flat[1:].reshape(20, 64)  # four bytes off a vector's place
    backend.dense_forward(shifted, weights, None, activations.linear, y)
    expected = backend.to_host(flat)[1:].reshape(20, 64) @ w
    np.testing.assert_allclose(backend.to_host(y), expected, rtol=1e-4, atol=1e-5)


def test_the_tile_is_chosen_by_shape():
    runtime = HostRuntime()
    runtime.multiprocessors = 132
    backend = CudaBackend(runtime)
    shapes = {
        (1, 1, 1): ("small", "small"),
        (20, 256, 256): ("small", "small"),
        (128, 784, 512): ("narrow", "medium"),
        (512, 512, 512): ("medium", "medium"),
        (1024, 1024, 1024): ("middle", "middle"),
        (4096, 4096, 4096): ("large", "large"),
    }
    for shape, names in shapes.items():
        chosen = backend.forward_tile(*shape), backend.backward_tile(*shape, slope=True)
        assert chosen == tuple(TILES[name] for name in names), shape


def test_a_slope_that_has_a_pass_of_its_own_counts():
    runtime = HostRuntime()
    runtime.multiprocessors = 132
    backend = CudaBackend(runtime)
    shape = (64, 512, 512)
    assert slope_apart(backend.backward_tile(*shape, slope=False))
    assert not slope_apart(backend.backward_tile(*shape, slope=True))


def test_the_schedule_changes_no_bit():
    cases = [c for s in ((20, 33, 64), (130, 40, 36)) for c in check.dense_cases(s, activations.gelu)]
    cases += [check.penalty_case(5000, check.L1L2(0.1, 0.1))]
    for case in cases:
        inputs = case.inputs(np.random.default_rng(3))
        runs = [check.outputs(case, CudaBackend(HostRuntime(seed)), inputs) for seed in range(6)]
        for name, value in runs[0].items():
            assert all(np.array_equal(value, other[name]) for other in runs[1:]), name


# ---- broken on purpose -----------------------------------------------------------------------------------------------

DENSE = [
    case
    for shape in ((20, 36, 20), (33, 70, 31), (9, 300, 10), (5, 9, 132))
    for case in check.dense_cases(shape, activations.relu)
]
BREAKS = {
    "no barrier after a stage is delivered": ("product.cuh", "barrier();  // this stage", "//"),
    "no barrier before the slices' sums": ("product.cuh", "if (SLICES > 1) barrier();", ""),
    "no barrier after the slices' sums": ("product.cuh", "    barrier();\n    for (int e", "    for (int e"),
    "one buffer instead of two": ("product.cuh", "stage = stage + 1 == BUFFERS ?", "stage = true ?"),
    "copies that are not waited for": ("product.cuh", "copies_wait<AHEAD - 1>();", ""),
    "copies that are waited for a stage too late": ("product.cuh", "copies_wait<AHEAD - 1>", "copies_wait<AHEAD>"),
    "a row too many is read": ("product.cuh", "last = operand.limit - WIDE", "last = operand.limit - WIDE + 1"),
    "a step of K too many is copied": ("product.cuh", "steps_of(c) < left);", "steps_of(c) <= left);"),
    "a buffer that is still read is filled": ("product.cuh", "(stage == 0 ? BUFFERS : stage) - 1", "stage"),
    "a last step without its slope": ("product.cuh", "k + steps_of(c) < steps", "k + steps_of(c) < steps - 1"),
    "another lane's column": ("product.cuh", "% WARP / 2 % WARP_N", "% WARP % WARP_N"),
    "a short stage's last step is forgotten": ("product.cuh", "k_end - k0 + SLICES - 1", "k_end - k0"),
    "no totals": ("product.cuh", "if (totals) out.total(n0 + thread, total);", ""),
    "totals of too many columns": ("dense_backward.cu", "if (n < columns) totals[", "totals["),
    "totals of another slice's steps": ("product.cuh",
                                        "(step * SLICES + slice) * PITCH", "(step * SLICES) * PITCH"),
    "totals of the first stages alone": ("product.cuh", "total += tile_b", "total = tile_b"),
    "a slice's sum is forgotten": ("product.cuh", "s < SLICES; ++s) sum", "s < SLICES - 1; ++s) sum"),
    "a stage of K is forgotten": ("product.cuh", "k0 < k_end; k0 +=", "k0 + BLOCK_K < k_end; k0 +="),
    "a row too many is written": ("dense_forward.cu", "if (m >= rows) return;\n        float", "float"),
    "no guard of the columns": ("dense_forward.cu", "if (n + j >= outputs) break;", ""),
    "the bias of the wrong column": ("dense_forward.cu", "bias[n + j]", "bias[n]"),
    "a wrong mask": ("elementary.cuh", "sign(float v) { return v > 0.0f", "sign(float v) { return v >= 0.0f"),
    "no mask": ("dense_backward.cu", "d[i] = gradient(d[i], of[i], numbers);", ";"),
    "the blocks of dx where they are not": ("dense_backward.cu", "before ? block_index() : block -", "block -"),
    "a row short": ("dense_backward.cu", "if (m >= rows) return;\n", "if (m >= rows - 1) return;\n"),
}  # fmt: skip


def notices(runtime, cases, tiles):
    """Whether a case fails, or the harness stops a kernel."""
    for tile in tiles:
        for case in cases:
            backend = CudaBackend(runtime)
            backend.tile = tile
            try:
                if not check.hold(case, backend, "broken").passed:
                    return True
            except HostKernelError:
                return True
    return False


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_dense_kernel_is_noticed(name):
    runtime, found = broken(*BREAKS[name][1:])
    assert notices(runtime, DENSE, ["small", "large"])
    assert found, "the text that was to be broken is not in the kernel any more"


NORM = [*check.batch_norm_cases((33, 40))]
OTHER_BREAKS = {
    "update: no tail": ("update.cu", "e < count; e += element_stride()", "e < 4 * quads; e += element_stride()",
                        check.update_case(257, "adam")),
    "update: a quad too many": ("update.cu", "VECTOR ? count / 4 : 0", "VECTOR ? (count + 3) / 4 : 0",
                                check.update_case(257, "adam")),
    "update: the first scalar twice": ("update.cu", "rates[i] = scalars[i]", "rates[i] = scalars[0]",
                                       check.update_case(64, "adamw")),
    "update: a slot that is not stored": ("update.cu", "s < SLOTS; ++s) store_quad", "s < SLOTS - 1; ++s) store_quad",
                                          check.update_case(64, "sgd nesterov")),
    "update: the slots' last": ("update.cu", "slots.at[s][e] = state[s]", "slots.at[s][e] = state[0]",
                                check.update_case(1, "rmsprop centered")),
    "affine: a row too many": ("elementwise.cu", "e < count;", "e <= count;", [*check.plain_cases((20, 7))][1]),
    "softmax: half the tree": ("primitives.cuh", "int mask = lanes / 2; mask > 0; mask /= 2) value +=",
                               "int mask = lanes / 4; mask > 0; mask /= 2) value +=",
                               next(iter(check.activation_cases((33, 20), activations.softmax)))),
    "take: a row off": ("take.cu", "rows[e / width]", "(rows[e / width] + 1)", next(iter(check.plain_cases((20, 7))))),
    "dropout: another word": ("dropout.cu", "words[i / 2]", "words[(i + 1) / 2 % 4]", [*check.plain_cases((20, 7))][2]),
    "loss: no weight": ("loss.cu", "weight / (float)rows, (int)outputs", "1.0f / (float)rows, (int)outputs",
                        check.loss_case((33, 10), check.LOSSES[0][0], "real", True)),
    "metric: the last of the largest": ("elementary.cuh", "at < place", "at > place",
                                        check.metric_case((257, 10), check.metrics.CategoricalAccuracy(), True)),
    "penalty: a dropped barrier": ("penalty.cu", "    barrier();\n    if", "    if",
                                   check.penalty_case(5000, check.L1L2(0.1, 0.1))),
    "penalty: the last warp's is forgotten": ("penalty.cu", "i < WARPS;", "i < WARPS - 1;",
                                              check.penalty_case(5000, check.L1L2(0.1, 0.1))),
    "batch norm: half the tree": ("batch_norm.cu", "int half = GROUPS / 2", "int half = GROUPS / 4",
                                  NORM[0]),
    "batch norm: a dropped barrier": ("batch_norm.cu", "half /= 2) {\n        barrier();", "half /= 2) {",
                                      NORM[0]),
    "batch norm: sums are read too late": ("batch_norm.cu", "    barrier();  // the sums before", "    //",
                                           NORM[0]),
    "batch norm: a column too many": ("batch_norm.cu", "int end = c < columns", "int end = c <= columns",
                                      NORM[0]),
    "batch norm back: a row is left out": ("batch_norm.cu", "r < (mine ? rows : 0)", "r < (mine ? rows - 1 : 0)",
                                           NORM[1]),
    "batch norm back: the sums change places": ("batch_norm.cu", "sums[columns + c] * share - normal * (sums[c]",
                                                "sums[c] * share - normal * (sums[columns + c]",
                                                NORM[1]),
    "fixed norm: no epsilon": ("batch_norm.cu", "sqrtf(spread + epsilon)", "sqrtf(spread)",
                               NORM[2]),
    "partial sums: the last is forgotten": ("sum_partials.cu", "s < splits", "s < splits - 1",
                                            [*check.dense_cases((2000, 3, 9), activations.relu)][1]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_BREAKS)
def test_any_other_broken_kernel_is_noticed(name):
    _, old, new, case = OTHER_BREAKS[name]
    runtime, found = broken(old, new)
    assert notices(runtime, [case], [None])
    assert found, "the text that was to be broken is not in the kernel any more"
