"""Functions of Keras's by their names alone, which is all that its configs say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpumlp import activations, losses, metrics, ops
from gpumlp.naming import unknown_name


def functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that a config may name: activations first, as in Keras, and those of arrays last."""
    judging = (vars(module).items() for module in (metrics, losses))
    return {
        **{name: f for name, f in vars(ops).items() if name in ops.FORMULAS},
        **{name: f for found in judging for name, f in found if hasattr(f, "checks") and not isinstance(f, type)},
        **activations.KNOWN,
    }


def function_of(config: Mapping[str, object]) -> Callable[..., Any]:
    """Return the function that a config dict of module "builtins" names; ValueError where there is none."""
    name, known = config.get("config"), functions()
    if not isinstance(name, str) or name not in known:
        raise unknown_name("function", name, known)
    return known[name]
