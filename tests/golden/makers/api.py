"""The API: signatures, configs, and what ``get`` makes of names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case
from makers.recording import Case, plain, write

MODULES = ("activations", "losses", "metrics", "optimizers", "optimizers.schedules", "initializers", "regularizers",
           "constraints")  # fmt: skip
NEEDED: dict[str, Case] = {  # what a class must be given
    "IoU": {"num_classes": 3, "target_class_ids": [0]}, "MeanIoU": {"num_classes": 3},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0]}, "OneHotMeanIoU": {"num_classes": 3},
    "SensitivityAtSpecificity": {"specificity": 0.5}, "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "PrecisionAtRecall": {"recall": 0.5}, "RecallAtPrecision": {"precision": 0.5},
    "MeanMetricWrapper": {"fn": keras.losses.mean_squared_error},
    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
    "InverseTimeDecay": {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5},
    "PiecewiseConstantDecay": {"boundaries": [2, 4], "values": [0.1, 0.05, 0.01]},
    "PolynomialDecay": {"initial_learning_rate": 0.1, "decay_steps": 3},
    "CosineDecay": {"initial_learning_rate": 0.1, "decay_steps": 3},
    "CosineDecayRestarts": {"initial_learning_rate": 0.1, "first_decay_steps": 3},
}  # fmt: skip
EXTRA = ("accuracy", "acc", "ce", "crossentropy", "logcosh", "huber_loss", "cosine", "kullback_leibler_divergence",
         "normal", "uniform", "zero", "one", "lamb", "Adam", "SGD", "RMSprop", "adam_w", "l1l2", "L1_L2", "maxnorm",
         "nonneg", "leakyrelu", "LeakyReLU", "glorot", "he", "identity", "eye")  # fmt: skip


def public(module: Any) -> Iterator[tuple[str, Any]]:
    for name in sorted(dir(module)):
        thing = getattr(module, name)
        if not name.startswith("_") and callable(thing) and name not in ("get", "serialize", "deserialize"):
            yield name, thing


def signature(thing: Any) -> list[list[Any]]:
    """Return a list per parameter: name, kind where it is not an ordinary one, and default where there is one."""
    found = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing)
    out = []
    for p in found.parameters.values():
        if p.name != "self":
            kind = "" if p.kind is p.POSITIONAL_OR_KEYWORD else p.kind.name.lower()
            out.append([p.name, kind] + ([] if p.default is p.empty else [plain(p.default)]))
    return out


def api() -> None:
    """Of each public name its signature; of each class the config of a default object; what ``get`` makes of a name.

    An alias's class is None where get refuses the name. Functions are named as functions are.
    """
    cases = []
    for module_name in MODULES:
        module: Any = keras
        for part in module_name.split("."):
            module = getattr(module, part)
        for name, thing in public(module):
            expected: Case = {"signature": signature(thing), "is_class": inspect.isclass(thing), "name": thing.__name__}
            config = NEEDED.get(name, {})
            if inspect.isclass(thing):
                keras.backend.clear_session()
                try:
                    expected["config"] = plain(thing(**config).get_config())
                except Exception as error:
                    expected["config_error"] = type(error).__name__
            given = {"module": module_name}
            cases.append({"name": name, "config": plain(config), "inputs": given, "expected": expected, "marks": {}})
        if hasattr(module, "get"):
            known = sys.modules[f"keras.src.{module_name}"].ALL_OBJECTS_DICT
            names = {n for n, _ in public(module)} | set(known) | set(EXTRA)
            names |= (
                {to_snake_case(n) for n in names} | {n.lower() for n in names} | {n.upper() for n in ("mse", "mae")}
            )
            aliases = {}
            for name in sorted(names):
                try:
                    found = module.get(name)
                    aliases[name] = getattr(found, "__name__", None) or type(found).__name__
                except Exception:  # a class that wants arguments is known, but a name alone does not make one
                    aliases[name] = f"{known[name].__name__} (wants arguments)" if name in known else None
            cases.append({"name": "get", "config": {}, "inputs": {"module": module_name}, "marks": {},
                          "expected": {"aliases": aliases}})  # fmt: skip
    write("api", cases)
