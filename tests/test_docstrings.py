"""Help where people look: what each public name's docstring must have, by numpydoc; examples run; what `dir` lists.

A public module has `__all__` and `listing`'s `__dir__`. Of each name in `__all__` the docstring has all parameters with
their types, what is returned, and an example; of a class's public methods too, but for the example. Examples import
what they use, NumPy included, and say what they draw random numbers by.
"""

import doctest
import inspect
import sys
import types
from pathlib import Path
from typing import get_args

import pytest
from numpydoc.validate import validate

import gpumlp
from gpumlp import (
    activations,
    constraints,
    initializers,
    literals,
    losses,
    metrics,
    missing,
    optimizers,
    regularizers,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from shown import INSIDE  # what only the package itself calls: a summary is enough

sys.path.pop(0)
MODULES = [
    "gpumlp",
    *(f"gpumlp.{name}" for name in gpumlp.__all__ if isinstance(getattr(gpumlp, name), types.ModuleType)),
    "gpumlp.errors",
    "gpumlp.interop",
    "gpumlp.optimizers.schedules",
    "gpumlp.sklearn",
]
# double blank lines; no docstring; parameters undocumented, unknown, in another order, without a type; no Returns
OF_ALL = {"GL03", "GL08", "PR01", "PR02", "PR03", "PR04", "RT01"}
OF_NAMES = OF_ALL | {"EX01"}  # no example


def module(path):
    return inspect.importlib.import_module(path)


def public(path):
    """Return the names of a public module that are documented, each with its thing; of gpumlp those of no other."""
    found = module(path)
    things = {name: getattr(found, name) for name in found.__all__}
    others = ("layers", "models") if path == "gpumlp" else ()
    elsewhere = [name for other in others for name in vars(module(f"gpumlp.{other}"))]
    return {name: thing for name, thing in things.items() if callable(thing) and name not in elsewhere}


def own(thing):
    """Return a class and its bases in the package; of a function itself."""
    bases = thing.__mro__ if isinstance(thing, type) else [thing]
    return [base for base in bases if getattr(base, "__module__", "").split(".")[0] == "gpumlp"]


def members(kind):
    """Return the public methods and properties of a class. What one has in place of a base's is told there."""
    inside = set().union(*(INSIDE.get(base.__name__, ()) for base in kind.__mro__))
    names = {name: value for base in own(kind) for name, value in vars(base).items() if name[0] != "_"}
    documented = (types.FunctionType, classmethod, staticmethod, property)
    found = (name for name, value in names.items() if isinstance(value, documented) and name not in inside)
    return sorted(name for name in found if sum(name in vars(base) for base in own(kind)) == 1)


def lacks(path, codes):
    return [f"{path}: {code} {words}" for code, words in validate(path)["errors"] if code in codes]


@pytest.mark.parametrize("path", MODULES)
def test_docstrings(path):
    found = []
    for name, thing in public(path).items():
        found += lacks(f"{path}.{name}", OF_ALL if path == "gpumlp.errors" else OF_NAMES)
        if isinstance(thing, type):
            for member in members(thing):
                found += lacks(f"{path}.{name}.{member}", OF_ALL)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", MODULES)
def test_examples(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    things = {part: None for thing in public(path).values() for part in own(thing)}  # each once
    for thing in (module(path), *things):
        for test in finder.find(thing, getattr(thing, "__qualname__", path), globs={}):
            runner.run(test)
    assert not runner.failures, capsys.readouterr().out


@pytest.mark.parametrize("path", MODULES)
def test_dir_lists_public_names_alone(path):
    found = module(path)
    assert [name for name in dir(found) if name[:2] != "__"] == sorted(found.__all__)
    assert "__name__" in dir(found)
    own = {name for name, thing in vars(found).items() if getattr(thing, "__module__", None) == path}
    shown = {name for name in own if name[0] != "_" and ">>> " in (vars(found)[name].__doc__ or "")}
    assert shown <= set(found.__all__), f"they have examples, and are not in __all__: {shown - set(found.__all__)}"
    if path.partition(".")[2] in missing.NAMES:
        here = {name for name in missing._known(path.partition(".")[2]) if name in vars(found)}
        assert here <= set(found.__all__), f"Keras has them there: {here - set(found.__all__)}"


def test_editors_are_told_that_there_are_types():
    assert (Path(gpumlp.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("alias", "known"),
    [
        (literals.ActivationName, activations.KNOWN),
        (literals.ConstraintName, constraints.KNOWN),
        (literals.InitializerName, initializers.KNOWN),
        (literals.LossName, losses.KNOWN),
        (literals.OptimizerName, optimizers.KNOWN),
        (literals.RegularizerName, regularizers.KNOWN),
    ],
)
def test_literals_are_the_names_that_get_knows(alias, known):
    assert list(get_args(alias)) == sorted(known)


def test_literals_of_metrics_are_the_names_that_need_no_arguments():
    def complete(name):
        try:
            return metrics.get(name, loss=losses.MeanSquaredError(), target_width=1, output_width=1) is not None
        except TypeError:
            return False

    assert list(get_args(literals.MetricName)) == sorted(filter(complete, {*losses.KNOWN, *metrics.KNOWN}))
