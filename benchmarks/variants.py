"""Every variant of the CUDA C++ kernels that `gpumlp.check` launches: what there is to compile, by the names of it.

A kernel's formulas are made for what a user asks for, so there is no end of variants; these are those of the package's
own activations, losses, metrics, penalties and optimizers. The whole-fit kernel's are in fit_cases.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from gpumlp import check
from gpumlp.activations import Activation
from gpumlp.backends import cuda_formulas
from gpumlp.backends.cuda_backend import AFFINE, ROW_THREADS, THREADS, TILES, slope_apart
from gpumlp.backends.cuda_formulas import Made
from gpumlp.backends.device_backend import is_cheap
from gpumlp.backends.runtime import FORMULAS, Defines
from gpumlp.losses import Loss

ELEMENTS = ("update.cu", "elementwise.cu", "take.cu", "dropout.cu", "step.cu", "sum_partials.cu")
ROWS = ("rowwise.cu", "loss.cu", "metric.cu")


def _name(activation: Activation) -> str:
    return activation.name + (", approximate" if activation.get_config().get("approximate") else "")


def _loss_name(loss: Loss) -> str:
    config = loss.get_config()
    return loss.name + "".join(f", {word}" for word in ("from_logits", "label_smoothing") if config.get(word))


def _made() -> Iterator[tuple[str, str, Made]]:
    """Yield the file, the name in words and what is made, for everything that is made of a formula."""
    for activation in check.every_activation():
        formula, name = activation.formula, _name(activation)
        file = "rowwise.cu" if formula.rowwise else "elementwise.cu"
        yield file, name, cuda_formulas.forward(activation)
        if not formula.back.is_identity:
            yield file, f"{name} back", cuda_formulas.back(activation)
        if not formula.rowwise:
            yield "dense_forward.cu", name, cuda_formulas.epilogue(activation)
        if is_cheap(formula):
            yield "dense_backward.cu", name, cuda_formulas.slope(activation)
    yield "elementwise.cu", "affine", cuda_formulas.of_inputs(AFFINE, {"scale": 2.0, "offset": 1.0})
    for loss, _ in check.LOSSES:
        yield "loss.cu", _loss_name(loss), cuda_formulas.loss(loss)
    for metric in check.METRICS:
        yield "metric.cu", metric.name, cuda_formulas.metric(metric)
    for penalty in check.PENALTIES:
        yield "penalty.cu", " ".join(penalty.numbers), cuda_formulas.penalty(penalty)
    for name, optimizer in check.OPTIMIZERS.items():
        yield "update.cu", name, cuda_formulas.update(optimizer)


@functools.cache
def names() -> dict[tuple[str, str], str]:
    """Return what the formulas of a file and a header's text are called; of several, by the first of them."""
    found: dict[tuple[str, str], str] = {}
    for file, name, made in _made():
        found.setdefault((file, made.header[FORMULAS]), name)
    return found


def variants() -> Iterator[tuple[str, Defines]]:
    """Yield every file with what it is compiled with."""
    for file, text in names():
        header = {FORMULAS: text}
        if file.startswith("dense_"):
            for tile in TILES.values():
                if file == "dense_forward.cu" or not slope_apart(tile) or names()[file, text] == "linear":
                    for vector in (0, 1):
                        yield file, {**tile.defines, "VECTOR": vector, **header}
        elif file in ELEMENTS:
            for vector in (0, 1)[: 1 + (file == "update.cu")]:
                yield file, {"THREADS": THREADS, "VECTOR": vector, **header}
        else:
            yield file, {"THREADS": ROW_THREADS if file in ROWS else THREADS, **header}
    for file in ("take.cu", "dropout.cu", "batch_norm.cu", "step.cu", "sum_partials.cu"):
        yield file, {"THREADS": THREADS, "VECTOR": 0}


def formula_name(file: str, defines: Defines) -> str:
    """Return what a variant's formulas are called; nothing for one without."""
    return names().get((file, str(defines.get(FORMULAS))), "")
