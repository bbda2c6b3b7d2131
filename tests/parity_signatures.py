"""Whether gpumlp's public functions and classes take their arguments as Keras's namesakes do.

For every name of gpumlp that Keras has too, the positional parameters must be Keras's first ones, in its order, so that
a call by position means the same; what is gpumlp's own is keyword-only. Defaults agree where both have a parameter.
Run by ``tests/parity.py``, where Keras is installed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

MODULES = (
    "activations", "callbacks", "config", "constraints", "initializers", "layers", "losses", "metrics", "models",
    "optimizers", "optimizers.schedules", "random", "regularizers", "saving", "utils",
)  # fmt: skip

# What may differ, by name or by name and parameter, and why.
WHY = {
    "layers.Layer": "a base, of which people make no layers of their own yet",
    **{
        f"optimizers.{kind}.build": "the argument is variables in Keras's base and in SGD, var_list in the others"
        for kind in ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon",
                     "Nadam", "RMSprop", "ScheduleFreeAdamW")
    },
    **{
        f"metrics.{kind}(name)": "None stands for the class's default_name, which is Keras's default"
        for kind in ("MeanSquaredError", "MeanAbsoluteError", "BinaryAccuracy", "CategoricalAccuracy",
                     "SparseCategoricalAccuracy")
    },
    **{
        name: "Keras has no default; a name alone makes one here"
        for name in ("activations.threshold(threshold)", "activations.threshold(default_value)",
                     "losses.categorical_generalized_cross_entropy(q)")
    },
    ".call": "one method of all layers, which takes training everywhere",
    **{f"layers.{kind}.__call__": "one method of all layers" for kind in ("Normalization", "Rescaling")},
    "losses.deserialize": "what Keras calls name here is config elsewhere",
    "metrics.BinaryIoU(target_class_ids)": "a tuple, where the numbers that Keras has were read as a list",
    "losses.Huber(name)": "Keras's 'huber_loss' is no name that its get() takes; 'huber' is",
}  # fmt: skip


def parameters(thing: Any) -> list[inspect.Parameter] | None:
    """Return the parameters but self; None where there is nothing to read."""
    try:
        return [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    except (TypeError, ValueError):
        return None


def positional(found: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def differences(name: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Yield what would make a call of Keras's mean something else in gpumlp."""
    mine, keras = parameters(ours), parameters(theirs)
    if mine is None or keras is None or name in WHY or "." + name.rpartition(".")[2] in WHY:
        return
    if any(p.kind is p.VAR_POSITIONAL for p in keras):  # a class's __new__ that hands all on, or a Layer's __call__
        if not isinstance(theirs, type) or (keras := parameters(theirs.__init__)) is None:
            return
    expected, got = [p.name for p in positional(keras)], [p.name for p in positional(mine)]
    own = [n for n in got if f"{name}({n})" in WHY and n not in expected]
    got = [n for n in got if n not in own]
    if got != expected[: len(got)]:
        yield f"{name}: positional arguments {got}; Keras's begin with {expected[: len(got)]}"
    defaults = {p.name: p.default for p in keras}
    for p in mine:
        here = defaults.get(p.name, p.empty)
        if f"{name}({p.name})" in WHY or p.name not in defaults:
            continue
        if p.default is not here and p.default != here:
            yield f"{name}: {p.name}={shown(p.default)}; in Keras {shown(here)}"


def shown(default: Any) -> str:
    return "no default" if default is inspect.Parameter.empty else repr(default)


def pairs(ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, gpumlp's, Keras's) of all public functions, classes and methods that both have."""
    yield "Input", ours.Input, theirs.Input
    for module in MODULES:
        here, there = ours, theirs
        for part in module.split("."):
            here, there = getattr(here, part), getattr(there, part, None)
        for name, thing in sorted(vars(here).items()):
            match = getattr(there, name, None)
            if name.startswith("_") or not callable(thing) or not callable(match):
                continue
            yield f"{module}.{name}", thing, match
            if isinstance(thing, type) and isinstance(match, type):
                for method, function in methods(thing):
                    if callable(other := getattr(match, method, None)):
                        yield f"{module}.{name}.{method}", function, other


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield a class's public methods, inherited ones too, but those that engines call (xp, scratch)."""
    for name in dir(kind):
        function = inspect.getattr_static(kind, name)
        if isinstance(function, (classmethod, staticmethod)):
            function = getattr(kind, name)
        if name == "__call__" or (not name.startswith("_") and inspect.isroutine(function)):
            yield name, function


def compare(ours: Any, theirs: Any) -> list[str]:
    """Return all differences; each exception of `WHY` must still be one."""
    found, seen = [], set()
    for name, here, there in pairs(ours, theirs):
        seen.add(name)
        found += differences(name, here, there)
    return found + [
        f"{name}: an exception for what is not there"
        for name in WHY
        if name[0] != "." and name.split("(")[0] not in seen
    ]


def main() -> int:
    """Print every difference; return 1 if there is one."""
    import keras

    import gpumlp

    found = compare(gpumlp, keras)
    for line in found:
        print(f"FAIL  {line}")
    count = len({name for name, *_ in pairs(gpumlp, keras)})
    print(f"{count} signatures held against Keras {keras.__version__}: {len(found)} differ")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
