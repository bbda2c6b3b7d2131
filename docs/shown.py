"""What the reference shows: the public names of the public modules, and of a class what a person calls.

A class that several modules have is described once, in the most special of them. Its methods stand with it, or with the
base of its family; bases that nobody can name are left out for theirs.
"""

import importlib
import inspect
import re
import types
from functools import cache
from pathlib import Path
from typing import NamedTuple

INDEX = (Path(__file__).parent / "reference" / "index.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^   (gpumlp[\w.]*)$", INDEX, re.MULTILINE)

# Bases whose members stand with them, and not again with each subclass.
FAMILIES = [
    "Layer", "Loss", "Metric", "Optimizer", "LearningRateSchedule", "Callback", "MonitorCallback", "Initializer",
    "Constraint", "Regularizer",
]  # fmt: skip

# Public methods that the package itself calls, and nobody else, by class.
INSIDE: dict[str, set[str]] = {
    "Activation": {"given", "retains_input", "rowwise"},
    "Initializer": {"values", "variance"},
    "Layer": {
        "along", "answer", "axes", "change", "check_weights", "constants", "described", "finalize_state", "initial",
        "result_shape", "specs", "take",
    },
    "Regularizer": {"by_library", "constants", "formula", "numbers", "rule"},
    "_OfNorms": {"wanted"},
    "OfTargets": {"changed", "target_width"},
    "Described": {"constants", "for_targets", "function", "numbers", "own", "rule", "sparse"},
    "Loss": {
        "averages", "beyond_models", "counts", "of_batch", "of_samples", "outputs", "refusal", "share", "targets",
    },
    "Metric": {"for_targets", "fresh", "has_the_state", "of", "why"},
    "Summed": {"empty", "names", "state", "state_of", "sums", "take"},
    "Optimizer": {
        "apart", "belong_to", "belongs_to", "coming", "count", "decays", "formula", "go_on", "go_on_from",
        "has_state", "numbers", "owner", "saved", "scalar_names", "scalars", "slots", "slots_for", "start_anew",
        "update", "update_each", "update_one",
    },
    "Nadam": {"product"},
    "Muon": {"is_adams"},
    "_Known": {"at"},
    "_Stepped": {"periods"},
    "Confusion": {"held", "largest", "measure"},
    "BackupAndRestore": {"batch_done", "epoch_done", "resume"},
    "CallbackList": {"batch_done", "epoch_done", "record", "resume"},
    "History": {"go_on_from"},
    "Stack": {"result_shape", "specs"},
    "Variable": {"change", "fitting"},
}  # fmt: skip


class Row(NamedTuple):
    """A name in a module's table: ``target`` is where it is described."""

    name: str
    target: str
    words: str


class Entry(NamedTuple):
    """A class that is described, with those of its methods and properties that stand with it."""

    name: str
    members: str
    derived: bool


class Table(NamedTuple):
    """A module's page."""

    rows: list[Row]
    classes: list[Entry]
    functions: list[str]


def is_ours(thing: object) -> bool:
    """Return whether a thing is the package's own."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] == "gpumlp"


def names_of(module: str) -> dict[str, object]:
    """Return a module's own public classes and functions by their names."""
    home = importlib.import_module(module)
    things = {name: getattr(home, name) for name in sorted(home.__all__)}
    return {name: thing for name, thing in things.items() if callable(thing) and is_ours(thing)}


@cache
def homes() -> dict[type, str]:
    """Return of each public class where it is described, by its own name if it has several there."""
    found: dict[type, str] = {}
    for module in sorted(MODULES, key=lambda path: -path.count(".")):
        for name, thing in names_of(module).items():
            if inspect.isclass(thing):
                path = f"{module}.{name}"
                better = thing.__name__ == name and found.get(thing, path).rpartition(".")[0] == module
                found[thing] = path if better else found.get(thing, path)
    return found


def bases(kind: type) -> list[type]:
    """Return a class's nearest bases that are public or another package's."""
    known, found = homes(), []
    for base in kind.__bases__:
        found += [base] if base in known or not is_ours(base) else bases(base)
    found = [base for base in dict.fromkeys(found) if base is not object]
    return [base for base in found if not any(issubclass(other, base) for other in found if other is not base)]


def members(kind: type) -> list[str]:
    """Return the names of the methods and properties that stand with a class."""
    own = [base for base in kind.__mro__ if is_ours(base)]
    names = {name: value for base in own for name, value in vars(base).items() if name[0] != "_"}
    documented = (types.FunctionType, classmethod, staticmethod, property)
    found = {name for name, value in names.items() if isinstance(value, documented) and inspect.getdoc(value)}
    elsewhere = {name for base in own[1:] if base.__name__ in FAMILIES for name in dir(base)}
    return sorted(found - elsewhere - set().union(*(INSIDE.get(base.__name__, ()) for base in own)))


def plain(line: str) -> str:
    """Have the asterisk of a shape, as in (samples, *features), and of ``**more`` be no emphasis."""
    if "`" in line:
        return line
    return re.sub(r"(?<![\w*])(\*{1,2})(?=\w)", lambda stars: "\\*" * len(stars[1]), line)


def words_of(name: str, thing: object, names: dict[str, object]) -> str:
    """Return a name's line of a table: the summary, or whose other name it is."""
    first = getattr(thing, "__name__", name)
    if first != name and names.get(first) is thing:
        return f"The same as `{first}`."
    return plain(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def tables() -> dict[str, Table]:
    """Return each public module's page."""
    described, found = homes(), {}
    for module in MODULES:
        names = names_of(module)
        classes = {name: thing for name, thing in names.items() if inspect.isclass(thing)}
        here = {name: thing for name, thing in classes.items() if described[thing].rpartition(".")[0] == module}
        targets = {name: described[thing] for name, thing in classes.items() if name not in here}
        found[module] = Table(
            [Row(n, targets.get(n, f"{module}.{n}"), words_of(n, thing, names)) for n, thing in names.items()],
            [Entry(name, ", ".join(members(kind)), bool(bases(kind))) for name, kind in here.items()],
            [name for name in names if name not in classes],
        )
    return found
