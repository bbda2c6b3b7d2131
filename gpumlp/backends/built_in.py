"""The formulas that the package has itself, as functions for the CPU: what a library that comes with it holds.

A formula's numbers are given to its function, but 0, 1 and what is no number shape it: so of each constant there are
some values here. What is left out (a metric of the three best classes, a threshold of its own) is compiled when it is
asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gpumlp import activations, losses, metrics, optimizers, regularizers
from gpumlp.backends.cpu_formulas import Code
from gpumlp.backends.job import activation_codes, objective_codes, penalty_code, update_code
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.optimizers.gathering import Gathering

Choices = Callable[[str, object], tuple[object, ...]]  # the values of a constant, by its name and default
NUMBER = 0.3  # as good as any other that is not 0 or 1
SHAPES = ((1, 1), (2, 2), (2, 1))  # outputs, and targets of a sample: kernels are the same for all others
# objects that are no flag and no plain number, and what they may be beside their default.
OTHERS: Mapping[str, tuple[object, ...]] = {"max_value": (6.0, 1.0), "gamma": (1.0, 3.0), "k": (1, 2, 3, 10)}
# What all optimizers have; a clip at 1 is a formula of its own.
SHARED: Mapping[str, tuple[object, ...]] = {
    "clipvalue": (None, NUMBER, 1.0), "use_ema": (False, True), "gradient_accumulation_steps": (None, 2)
}  # fmt: skip
OWN: Mapping[str, tuple[object, ...]] = {
    **dict.fromkeys(("beta_1", "beta_2", "momentum", "rho"), (0.0, NUMBER)), "epsilon": (0.0, 1.0),
    **dict.fromkeys(("nesterov", "amsgrad", "centered"), (False, True)),
    **{f"{name}_strength": (NUMBER, 1.0) for name in ("l1_regularization", "l2_shrinkage_regularization")},
    "learning_rate_power": (-NUMBER, -1.0),
}  # fmt: skip


def codes() -> dict[str, Code]:
    """Return the functions of all these formulas by their names; what cannot be compiled is left out."""
    found = {}
    for code in _codes():
        if code.name not in found:
            try:
                code.function()
            except NotImplementedError:
                continue
            found[code.name] = code
    return found


def _codes() -> Iterator[Code]:
    for activation in {id(a): a for a in activations.KNOWN.values()}.values():
        for constants in _values(dict(activation.constants), _of_constant):
            yield from filter(None, activation_codes(activation.given(**constants), fused=False))
    for loss in _losses():
        for outputs, width in SHAPES:
            if width == loss.target_width(outputs):
                yield from objective_codes(loss, [], outputs, width)
    for metric in _metrics():
        for outputs, width in SHAPES:
            if width in (1, metric.target_width(outputs)):
                yield from objective_codes(losses.MeanSquaredError(), [metric], outputs, width)
    for l1, l2 in itertools.product((0.0, NUMBER, 1.0), repeat=2):
        yield penalty_code(regularizers.L1L2(l1, l2))
    for optimizer in _optimizers():
        if not optimizer.apart:
            yield update_code(optimizer)


def _values(defaults: Mapping[str, object], choices: Choices) -> Iterator[dict[str, object]]:
    """Yield all combinations of the values of constants."""
    several = [dict.fromkeys((default, *choices(name, default))) for name, default in defaults.items()]
    for combination in itertools.product(*several):
        yield dict(zip(defaults, combination, strict=True))


def _of_constant(name: str, default: object) -> tuple[object, ...]:
    if name in OTHERS:
        return OTHERS[name]
    return (False, True) if isinstance(default, bool) else (NUMBER,) if isinstance(default, float) else ()


def _described(kinds: Iterable[Any]) -> Iterator[Any]:
    """Yield objects of classes whose arguments are the constants of a function."""
    for kind in dict.fromkeys(kinds):
        own = {k: v for k, v in kind.constant_defaults.items() if k in kind.arguments}
        yield from (kind(**constants) for constants in _values(own, _of_constant))


def _losses() -> Iterator[Loss]:
    yield from (loss for loss in _described(losses.KNOWN.values()) if loss.own is False and not loss.beyond_models())


def _metrics() -> Iterator[Metric]:
    of_losses = [metrics.get(name) for name in losses.KNOWN]
    others = [metric for kind in dict.fromkeys(metrics.KNOWN.values()) if (metric := _plain(kind)) is not None]
    described = _described(kind for kind in metrics.KNOWN.values() if getattr(kind, "function", None) is not None)
    yield from (metric for metric in (*of_losses, *others, *described) if metric.series)


def _plain(kind: Callable[[], Metric] | None) -> Metric | None:
    """Return a metric as its class makes it by itself; None of a class that needs arguments."""
    try:
        return None if kind is None else kind()
    except TypeError:
        return None


def _optimizers() -> Iterator[Optimizer]:
    yield Gathering()
    kinds: Iterable[Any] = dict.fromkeys(optimizers.KNOWN.values())
    for kind in kinds:
        own = {k: v for k, v in kind().get_config().items() if k in OWN}
        flags = {name: value for name, value in own.items() if isinstance(value, bool) or name == "momentum"}
        of_own = _values(own, lambda name, default: OWN[name])
        shared = ({**a, **b} for a in _values(flags, lambda name, default: OWN[name]) for b in _shared())
        for constants in itertools.chain(of_own, shared):
            try:
                yield kind(**constants)
            except ValueError:  # a value that this optimizer may not have
                continue


def _shared() -> list[dict[str, object]]:
    return list(_values(dict.fromkeys(SHARED), lambda name, default: SHARED[name]))
