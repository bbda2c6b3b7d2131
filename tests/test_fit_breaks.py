"""The whole-fit kernel, broken on purpose: the comparison with NumPy notices, or the harness stops it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from host import runtime as host
from host.runtime import HostRuntime
from whole_fit import Case, Dense, by_numpy, force, train

from gpumlp import kernel_sources, optimizers, regularizers
from gpumlp.backends.runtime import FORMULAS, parted
from gpumlp.engine import fit_program
from gpumlp.training import loop

L1L2 = regularizers.L1L2
GROUP = Case(
    lambda: [
        Dense(5, "tanh", kernel_regularizer=L1L2(0.01, 0.02), bias_regularizer=L1L2(0, 0.02)),
        Dense(8, "gelu", kernel_regularizer="l2"), Dense(6, "sigmoid", kernel_regularizer="l2"), Dense(17, "tanh"),
    ], samples=19, batch=4, group=3, threads=32, weighted=True, metrics=("mae",), weighted_metrics=("mse",),
    optimizer=lambda: optimizers.Adam(0.01),
)  # fmt: skip
TAGS = replace(GROUP, shared=3096)  # too little to keep the inputs of layers 1 and 2; late: nor those of two batches
NARROW = replace(
    GROUP, stack=lambda: [Dense(33, "tanh"), Dense(6, "silu", kernel_regularizer="l2")], group=2, batch=7, samples=36
)
NETS = {
    "tags": TAGS, "barrier": replace(TAGS, exchange="barrier"), "alone": replace(GROUP, group=1, threads=64),
    "late": replace(GROUP, shared=3048, most=2),
    "narrow": NARROW, "deep": replace(GROUP, stack=lambda: [*(Dense(9, "tanh") for _ in range(6)), Dense(2)]),
}  # fmt: skip
LOSS_END = "(LAST), O, Y::OUT);\n        barrier();\n      "
END = "        barrier();\n        return true;\n    }\n\n    // "

BREAKS = {
    # exchange
    "one half of the packets": ("barrier", "(int)(tag & 1) * half", "0"),
    "no barrier where packets are sent": ("tags", "if (!HANDS_ON || TAGS) barrier();", "if (!HANDS_ON) barrier();"),
    "no barrier before taking": ("tags", "if (TAGS || again) barrier();", "if (TAGS || again) {}"),
    "no barrier after": ("tags", "return !any_thread(late);\n    }\n\n    // A", "return !late; } // A"),
    "tags are not looked at": ("tags", "held[j].tag == tag)", "true)"),
    "what is missing is not read again": ("tags", "if (missing >> j & 1) held", "if (polls == 0) held"),
    "tags begin anew": ("tags", "(uint32)(m[0].number + step)", "(uint32)(1 + step)"),
    "arrivals begin anew": ("barrier", "(uint32)m[0].awaited}", "0u}"),
    "no barrier before arriving": ("barrier", "        barrier();\n        awaited += GROUP;", "awaited += GROUP;"),
    "packets in another block's place": ("tags", "t * Y::OUTPUTS + first<L>() + c", "t * Y::OUTPUTS + c"),
    "packets of rows beyond the batch": ("tags", "if (3 * t + 2 < BATCH) to", "to"),
    # a batch
    "one buffer for x": ("tags", "(L == 0 && AHEAD ? (of_step & 1) * COUNT : 0)", "0"),
    "one buffer for the targets": ("tags", "TARGETS_AT + (of_step & 1) * BATCH * TARGETS", "TARGETS_AT"),
    "one half's padding": ("tags", "half <= AHEAD; ++half) clear", "half < 1; ++half) clear"),
    "the last batch is not fetched": ("tags", "step + 1 < steps) fetch", "step + 2 < steps) fetch"),
    "no barrier after a late one": ("late", "fetch(step);\n                barrier();", "fetch(step);"),
    "a late one is not fetched": ("late", "fetch(step);\n                barrier();", "barrier();"),
    "no barrier after the first": ("alone", "        fetch(0);\n        barrier();", "        fetch(0);"),
    # forward, loss
    "a column beyond": ("narrow", "at_most(c + j, N - 1) * ldw", "(c + j) * ldw"),
    "no bias": ("alone", "HAS_BIAS[L] ? weights[c * Y::COLUMN + Y::IN] : 0.0f", "0.0f"),
    "padding of what was collected": ("tags", "clear_padding(to, COLUMNS, LD);", ""),
    "padding of outputs": ("alone", "if (L < LAST && Y::OUT > Y::OUTPUTS) clear", "if (false) clear"),
    "padding of the loss": ("tags", "if (Y::OUT > O) clear_padding(delta", "if (false) clear_padding(delta"),
    "padding of gradients": ("alone", "if (ALONE && Y::IN > Y::INPUTS) clear", "if (false) clear"),
    "no barrier after a layer": ("alone", f"{END}---- the loss", "return true;\n }\n // "),
    "no barrier after the loss": ("tags", f"{LOSS_END}  if", "(LAST), O, Y::OUT); if"),
    "no barrier before sums": ("tags", "barrier();\n        for (int s = thread", "for (int s = thread"),
    "dead rows have a loss": ("narrow", "end = r < rows ? O : 0;\n            Shared", "end = O; Shared"),
    "every block writes losses": ("tags", "        if (rank != LOGGER) return;", ""),
    # backward
    "inputs are not collected again": ("tags", "if (RELOAD[l] && !collect", "if (false && !collect"),
    "no barrier before the update": ("deep", "if (!HANDS_ON || TAGS) barrier();", "if (HANDS_ON) barrier();"),
    "no barrier after penalties": ("narrow", "penalties<L>(l);\n            barrier();", "penalties<L>(l);"),
    "no barrier after the way back": ("narrow", f"{END}The gradient", "return true;\n }\n // "),
    "a row below too many": ("tags", "at_most(Y::ROWS, Y::INPUTS - rank * Y::ROWS)", "Y::ROWS"),
    "every block writes penalties": ("narrow", "        if (Y::WHOLE && rank != 0) return;", ""),
    # update, load and save
    "dead rows train": ("tags", "b < rows; ++b) add(b)", "b < BATCH; ++b) add(b)"),
    "dead rows train biases": ("tags", "b < rows; ++b) g +=", "b < BATCH; ++b) g +="),
    "the other batch's x": ("tags", "&& AHEAD ? (step & 1) *", "&& AHEAD ? (1 - (step & 1)) *"),
    "one of two copies": ("tags", "!exists ? 0 : Y::WHOLE_CHUNKS_BELOW", "true ? 0 : Y::WHOLE_CHUNKS_BELOW"),
    "the gradient of the layer below": ("alone", "AT_DELTA[l] + o, Y::OUT", "AT_DELTA[below] + o, Y::OUT"),
    "columns beyond the block's own": ("tags", "if (j >= u.count) continue;\n                    float w", "float w"),
    "the kernel's penalty on biases": ("tags", "g += penalty_gradient<BIAS", "g += penalty_gradient<KERNEL"),
    "a weight for the bias": ("tags", "penalty_of<BIAS_PENALTY[L]>(w + Y::IN,", "penalty_of<BIAS_PENALTY[L]>(w,"),
    "weights of samples do not count": ("tags", "SUM_WEIGHTED[i] ? sums[i] * weight : sums[i]", "sums[i]"),
    "one layer of a run for all": ("deep", "if (l == L || MORE == 1) {", "if (true) {"),
    "state from nowhere": ("tags", "state[s] = m[0].slots.at[s][at];", "state[s] = 0.0f;"),
    "state of biases from nowhere": ("tags", "if (k == Y::IN + 1 + s) from = m[0].slots.at[s];", ""),
    "every block saves the last layer": ("narrow", "(Layer<L>::WHOLE && rank != 0)", "false"),
    "no barrier before saving": ("tags", "if (!ALONE && !exchange.all_are_well()) return;", ""),
}  # fmt: skip


@pytest.fixture(autouse=True)
def several_launches(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1000.0)
    monkeypatch.setattr(fit_program, "CAPACITY", 2)
    # as fast to run as to compile
    monkeypatch.setattr(host, "FLAGS", [flag.replace("-O1", "-O0") for flag in host.FLAGS])


def trained(net, runtime, as_gpu, monkeypatch):
    """Return what training gives, or None where the kernel was stopped, and the constants that it was compiled with."""
    case = NETS[net]
    force(monkeypatch, case)
    if case.shared:
        runtime.shared_bytes = case.shared
    as_gpu(runtime)
    model = case.build("cuda")
    found = train(case, model)
    whole = model.program.startswith("whole-fit kernel")
    return (found, model._runner.last._last.launcher.plan.defines) if whole else (None, None)


@pytest.fixture(scope="module")
def expected():
    return {net: by_numpy(case, "float32") for net, case in NETS.items()}


def near(got, truth):
    return all(np.allclose(got[name], value, rtol=2e-4, atol=1e-6) for name, value in truth.items())


@pytest.mark.parametrize("net", NETS)
def test_unbroken_it_is_right(as_gpu, monkeypatch, expected, net):
    found, defines = trained(net, HostRuntime(), as_gpu, monkeypatch)
    assert found is not None and near(found, expected[net])
    text = kernel_sources.expanded("fit.cu", parted(defines)[1])
    broken = [text.replace(old, new) for where, old, new in BREAKS.values() if where == net]
    with ThreadPoolExecutor(2) as pool:  # what the tests below will find compiled
        list(pool.map(lambda source: host.compile_kernels(source, defines), broken))


@pytest.mark.filterwarnings("ignore::gpumlp.errors.NonFiniteLossWarning")  # on purpose
@pytest.mark.filterwarnings("ignore:The whole-fit kernel can:UserWarning")
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_kernel_is_noticed(as_gpu, monkeypatch, expected, name):
    net, old, new = BREAKS[name]
    assert old in kernel_sources.expanded("fit.cu", {FORMULAS: ""}), "the kernel no longer has what is to be broken"
    for seed in range(8):  # some schedules hide it
        runtime = HostRuntime(seed, mutate=lambda file, text: text.replace(old, new))
        found, _ = trained(net, runtime, as_gpu, monkeypatch)
        if found is None or not near(found, expected[net]):
            return
    raise AssertionError("nothing noticed")
