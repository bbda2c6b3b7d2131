"""formulas.cuh, the header that CUDA C++ kernels are compiled with: what they compute, for one description or network.

Each kernel file calls a few functions by fixed names and parameters; here they are made from formulas, by the writer. A
description's numbers are no part of the text: a launch passes them as the struct Numbers, so that another value needs
no other code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gpumlp.activations import Activation, linear
from gpumlp.backends.runtime import FORMULAS, Defines, float_words
from gpumlp.backends.writer import CPP, element_function, row_function
from gpumlp.formulas import Formula
from gpumlp.losses import Loss
from gpumlp.metrics import Metric
from gpumlp.optimizers import Optimizer
from gpumlp.regularizers import Regularizer

NUMBERS = "const Numbers &numbers"
Z, SLOPE = f"float z, {NUMBERS}", f"float dy, float y, float z, {NUMBERS}"  # parameters of functions of an element
OF_ROW = f"int outputs, int end, int lane, int lanes, {NUMBERS}"  # the last parameters of all functions of a row
GIVEN = ("outputs", "end", "lane", "lanes")
Values = Mapping[str, float]  # of numbers, by name
cached = functools.lru_cache(maxsize=512)


class Made(NamedTuple):
    """What a kernel is compiled with, and the struct Numbers that its launches pass."""

    header: Defines  # to be added to others
    numbers: tuple[int, ...]
    rowwise: bool = False  # whether it is computed by rows


class _Text:
    """A header as it is written: functions, and the numbers that they are given."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: list[float] = []

    def line(self, text: str) -> None:
        self.parts.append(text.rstrip("\n") + "\n")

    def take(self, formula: Formula, values: Values) -> tuple[str, ...]:
        """Return the formula's numbers as arguments: members of Numbers that nobody has yet."""
        first = len(self.values)
        self.values += [values[name] for name in formula.numbers]
        return tuple(f"numbers.at[{i}]" for i in range(first, len(self.values)))

    def function(self, head: str, *body: str) -> None:
        special = "template <> " if "<" in head.partition("(")[0] else ""
        self.line("\n".join([f"{special}DEVICE {head} {{", *(f"    {line}" for line in body), "}"]))

    def made(self) -> Made:
        """Return what was written."""
        words = float_words(self.values or [0.0])
        numbers = f"struct Numbers {{\n    float at[{2 * len(words)}];\n}};\n"
        text = "\n".join(['#include "elementary.cuh"\n', numbers, *self.parts])
        return Made({FORMULAS: text}, tuple(words.tolist()))

    # ---- what kernels call -------------------------------------------------------------------------------------------

    def element(
        self, name: str, formula: Formula, given: Mapping[str, str], head: str, numbers: tuple[str, ...]
    ) -> None:
        """Write ``head``, which returns the formula's one root; ``given`` is what stands for each leaf there."""
        arguments = [leaf for leaf in given if formula.reads(leaf)]
        self.line(element_function(CPP, name, formula, arguments))
        self.function(head, f"return {_call(name, [given[a] for a in arguments], numbers)};")

    def row(
        self, name: str, formula: Formula, given: Mapping[str, str], head: str, numbers: tuple[str, ...],
        written: Mapping[str, str] | None = None, values: Mapping[str, str] | None = None, adds: bool = False,
    ) -> None:  # fmt: skip
        """Write ``head``, a function of a row: arrays ``given`` by leaf, ``written`` by root, ``values`` by leaf."""
        into = {root: root for root in written or {}}
        arrays = {leaf: place for leaf, place in given.items() if formula.reads(leaf)}
        read = {leaf: value for leaf, value in (values or {}).items() if formula.reads(leaf)}
        self.line(row_function(CPP, name, formula, [*arrays, *into], [*read], into, adds))
        places = [*arrays.values(), *(written or {}).values(), *read.values()]
        self.function(head, f"return {_call(name, places, (*GIVEN, *numbers))};")

    def loss(self, loss: Loss) -> None:
        self.row(
            "loss_of", loss.formula, {"t": "t", "p": "p"},
            f"float row_loss(Array<const float> t, Array<const float> p, Array<float> dp, float factor, {OF_ROW})",
            self.take(loss.formula, loss.numbers), {"dp": "dp"}, {"factor": "factor"},
        )  # fmt: skip

    def metrics(self, metrics: Sequence[Metric]) -> None:
        """Write what puts the sums of all metrics, one after the other, into ``sums``."""
        lines, at = [], 0
        for i, metric in enumerate(metrics):
            formula = metric.formula
            arrays, count = [a for a in ("t", "p") if formula.reads(a)], len(formula.roots)
            self.line(row_function(CPP, f"metric_{i}", formula, arrays))
            call = _call(f"metric_{i}", arrays, (*GIVEN, *self.take(formula, metric.numbers)))
            if count == 1:
                lines.append(f"sums[{at}] = {call};")
            else:
                lines.append(f"auto found_{i} = {call};")
                lines += [f"sums[{at + k}] = found_{i}.at[{k}];" for k in range(count)]
            at += count
        self.line(f"constexpr int SUMS = {at};")
        of = f"Array<const float> t, Array<const float> p, float (&sums)[{max(at, 1)}]"
        self.function(f"void row_metrics({of}, {OF_ROW})", *lines)

    def update(self, formula: Formula, scalars: tuple[str, ...], values: Values) -> None:
        slots = formula.names[1:]
        states = {name: f"state[{i}]" for i, name in enumerate(slots)}
        rates = {name: f"rates[{i}]" for i, name in enumerate(scalars)}
        given = {"w": "w", "g": "g", **states, **rates}
        self.line(f"constexpr int SLOTS = {len(slots)}, SCALARS = {len(scalars)};")
        self.line(f"struct Slots {{\n    Global<float> at[{max(len(slots), 1)}];\n}};")
        self.line(element_function(CPP, "step_of", formula, tuple(given)))
        call = _call("step_of", [*given.values()], self.take(formula, values))
        state, now = f"float (&state)[{max(len(slots), 1)}]", f"const float (&rates)[{max(len(scalars), 1)}]"
        head = f"void update_of(float &w, float g, {state}, {now}, {NUMBERS})"
        self.function(head, f"{call};" if slots else f"w = {call};")


def _call(name: str, arguments: Sequence[str], more: Sequence[str]) -> str:
    return f"{name}({', '.join([*arguments, *more])})"


# ---- a header for each kernel file -----------------------------------------------------------------------------------
INPUTS = {"dy": "inputs.dy", "y": "inputs.y", "z": "inputs.z"}


@cached
def epilogue(activation: Activation) -> Made:
    """For dense_forward.cu: y of z; z itself where y is made of rows."""
    if activation.formula.rowwise:
        return epilogue(linear)
    text, formula = _Text(), activation.formula.forward
    numbers = text.take(formula, activation.numbers)
    text.element("activation", formula, {"z": "z"}, f"float activate({Z})", numbers)
    return text.made()


@cached
def slope(activation: Activation) -> Made:
    """For dense_backward.cu: dz of dy and y; LINEAR where it is dy."""
    text, formula = _Text(), activation.formula.back
    text.line(f"constexpr bool LINEAR = {str(formula.is_identity).lower()};")
    numbers = text.take(formula, activation.numbers)
    text.element("slope", formula, {"dy": "dy", "y": "y"}, f"float gradient(float dy, float y, {NUMBERS})", numbers)
    return text.made()


@cached
def forward(activation: Activation) -> Made:
    """For elementwise.cu or rowwise.cu: y of z."""
    return of_inputs(activation.formula.forward, activation.numbers)


@cached
def back(activation: Activation) -> Made:
    """For elementwise.cu or rowwise.cu: dz of dy, y and z."""
    return of_inputs(activation.formula.back, activation.numbers)


def of_inputs(formula: Formula, values: Values) -> Made:
    """For rowwise.cu where the formula is one of rows, else for elementwise.cu: its one root of dy, y and z."""
    text = _Text()
    numbers = text.take(formula, values)
    if formula.rowwise:
        given = {leaf: f"{array} + at" for leaf, array in INPUTS.items()}
        head = f"void compute_row(Global<float> out, const Inputs &inputs, long long at, {OF_ROW})"
        text.row("row_of", formula, given, head, numbers, {formula.names[0]: "out + at"})
    else:
        given = {leaf: f"{array}[e]" for leaf, array in INPUTS.items()}
        text.element(
            "element_of", formula, given, f"float element(const Inputs &inputs, long long e, {NUMBERS})", numbers
        )
    return text.made()._replace(rowwise=formula.rowwise)


@cached
def loss(loss: Loss) -> Made:
    """For loss.cu."""
    text = _Text()
    text.loss(loss)
    return text.made()


@cached
def metric(metric: Metric) -> Made:
    """For metric.cu."""
    text = _Text()
    text.metrics([metric])
    return text.made()


@cached
def penalty(penalty: Regularizer) -> Made:
    """For penalty.cu: the penalty of weights that are a row, with and without its gradient, which is added to dw."""
    text, formula = _Text(), penalty.formula
    w, value, numbers = {"w": "w"}, formula.only("value"), penalty.numbers
    head = f"float penalty_of(Array<const float> w, {OF_ROW})"
    text.row("value_of", value, w, head, text.take(value, numbers))
    head = f"float penalty_and_gradient(Array<const float> w, Array<float> dw, {OF_ROW})"
    text.row("both_of", formula, w, head, text.take(formula, numbers), {"dw": "dw"}, adds=True)
    return text.made()


def update(optimizer: Optimizer) -> Made:
    """For update.cu."""
    values = optimizer.numbers
    return _update(optimizer.formula, optimizer.scalar_names, tuple(values.items()))


@cached
def _update(formula: Formula, scalars: tuple[str, ...], values: tuple[tuple[str, float], ...]) -> Made:
    text = _Text()
    text.update(formula, scalars, dict(values))
    return text.made()


def fit(
    activations: Sequence[Activation], loss: Loss, metrics: Sequence[Metric], penalties: Sequence[Regularizer],
    optimizer: Optimizer,
) -> Made:  # fmt: skip
    """For fit.cu: all of a network. ``activations`` by their KINDS, the last layer's last; ``penalties`` by theirs."""
    text = _Text()
    for head in (f"activate({Z})", f"gradient({SLOPE})"):
        text.line(f"template <int KIND> DEVICE float {head};")
    for kind, activation in enumerate(activations):
        _activation_of_fit(text, kind, activation, kind == len(activations) - 1)
    text.loss(loss)
    text.metrics(metrics)
    for head in (f"penalty_of(Array<const float> w, {OF_ROW})", f"penalty_gradient(float w, {NUMBERS})"):
        text.line(f"template <int KIND> DEVICE float {head} {{\n    return 0.0f;  // without one\n}}")
    for kind, penalty in enumerate(penalties):
        w, value, slope = {"w": "w"}, penalty.formula.only("value"), penalty.formula.only("dw")
        head = f"float penalty_of<{kind}>(Array<const float> w, {OF_ROW})"
        text.row(f"penalty_{kind}", value, w, head, text.take(value, penalty.numbers))
        head = f"float penalty_gradient<{kind}>(float w, {NUMBERS})"
        text.element(f"pull_{kind}", slope, w, head, text.take(slope, penalty.numbers))
    text.update(optimizer.formula, optimizer.scalar_names, optimizer.numbers)
    return text.made()


def _activation_of_fit(text: _Text, kind: int, activation: Activation, last: bool) -> None:
    """Write an activation by elements, and where it is the last layer's also by rows: what is left to do then."""
    formula, of = activation.formula, {"dy": "dy", "y": "y", "z": "z"}
    forward, back = (text.take(part, activation.numbers) for part in (formula.forward, formula.back))
    if not formula.rowwise:
        text.element(f"activation_{kind}", formula.forward, of, f"float activate<{kind}>({Z})", forward)
        text.element(f"slope_{kind}", formula.back, of, f"float gradient<{kind}>({SLOPE})", back)
    else:
        text.function(f"float activate<{kind}>({Z})", "return z;")
    if not last:
        return
    head = f"void activate_row(Array<const float> z, Array<float> y, {OF_ROW})"
    if formula.rowwise:
        text.row("row_of", formula.forward, of, head, forward, {"y": "y"})
    else:
        text.function(head)
    head = f"void gradient_row(Array<float> dy, Array<const float> y, Array<const float> z, {OF_ROW})"
    text.row("back_of", formula.back, of, head, back, {"dz": "dy"})
