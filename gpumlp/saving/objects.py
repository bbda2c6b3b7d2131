"""Objects as config dicts with Keras's keys, and names for classes and functions of a user's own.

    {"module": "keras.initializers", "class_name": "Constant", "config": {"value": 2.0}, "registered_name": None}

gpumlp's own classes are written as Keras's namesakes, so that either library reads what the other has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from gpumlp import naming
from gpumlp.attributes import Attributes
from gpumlp.signatures import shown, taken_by

MODULES = ("optimizers.schedules",)  # of a package, that Keras has as a module, too
_names: dict[object, str] = {}  # of what is registered
_readers: dict[str, Callable[[Any], Any]] = {}  # by the name of a module of Keras's


# ---- names of a user's own -------------------------------------------------------------------------------------------


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[Any], Any]:
    """Return a decorator that has a class or function be known as "package>name" in config dicts.

    Parameters
    ----------
    package : str
        What keeps names of several authors apart.
    name : str, optional
        The class's or function's own when None.

    Returns
    -------
    callable
        The decorator, which returns what it is given. It raises ValueError for a class without `get_config`.

    Examples
    --------
    >>> from gpumlp import ops, saving
    >>> @saving.register_keras_serializable("mine")
    ... def bent(x):
    ...     return ops.sqrt(ops.square(x) + 1.0) + x
    >>> saving.get_registered_name(bent)
    'mine>bent'
    """

    def register(thing: Any) -> Any:
        if isinstance(thing, type) and not hasattr(thing, "get_config"):
            raise ValueError(f"{thing.__name__} must have a method get_config: it says what an instance is made of.")
        full = f"{package}>{thing.__name__ if name is None else name}"
        naming.registered[full], _names[thing] = thing, full
        return thing

    return register


@contextmanager
def custom_object_scope(custom_objects: Mapping[str, object] | None) -> Iterator[None]:
    """Have names mean classes and functions of a user's own, wherever names and config dicts are taken.

    Parameters
    ----------
    custom_objects : dict, optional
        Classes and functions by name.

    Returns
    -------
    context manager
        The names hold inside of its ``with``.

    Examples
    --------
    >>> from gpumlp import layers, ops, saving
    >>> def bent(x):
    ...     return ops.sqrt(ops.square(x) + 1.0) + x
    >>> with saving.custom_object_scope({"bent": bent}):
    ...     layer = layers.Dense(8, activation="bent")
    """
    before = naming.scope.set({**naming.scope.get(), **(custom_objects or {})})
    try:
        yield
    finally:
        naming.scope.reset(before)


CustomObjectScope = custom_object_scope


def get_custom_objects() -> dict[str, object]:
    """Return what is registered, by name.

    Returns
    -------
    dict
        The dict itself: what is put into it is known.

    Examples
    --------
    >>> from gpumlp import saving
    >>> "never>registered" in saving.get_custom_objects()
    False
    """
    return naming.registered


def get_registered_name(obj: Callable[..., object]) -> str:
    """Return the name that a class or function is registered by, or else its own.

    Parameters
    ----------
    obj : class or function

    Returns
    -------
    str

    Examples
    --------
    >>> from gpumlp import layers, saving
    >>> saving.get_registered_name(layers.Dense)
    'Dense'
    """
    return _names.get(obj) or obj.__name__


def get_registered_object(
    name: str, custom_objects: Mapping[str, object] | None = None, module_objects: Mapping[str, Any] | None = None
) -> Any:
    """Return what is registered by a name, or has it in one of the mappings.

    Parameters
    ----------
    name : str
        As `get_registered_name` returns it.
    custom_objects, module_objects : dict, optional
        Where else to look, in this order.

    Returns
    -------
    class, function or None
        None where nothing has the name.

    Examples
    --------
    >>> from gpumlp import saving
    >>> saving.get_registered_object("twice", {"twice": lambda x: 2.0 * x})(4.0)
    8.0
    """
    given = (names[name] for names in (custom_objects, module_objects) if names and name in names)
    return next(given, None) if (found := naming.own(name)) is None else found


# ---- config dicts ----------------------------------------------------------------------------------------------------


def serialize_keras_object(obj: Any) -> Any:
    """Return an object as what JSON can hold, with Keras's keys.

    Parameters
    ----------
    obj : object
        What has a ``get_config``, a named function, an array, a number, a string, None, and lists and dicts of these.

    Returns
    -------
    dict, list, number, str or None

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> from gpumlp import regularizers, saving
    >>> saving.serialize_keras_object(regularizers.L2(0.5))["class_name"]
    'L2'
    """
    if obj is None or isinstance(obj, (str, int, float)):
        return obj
    if isinstance(obj, np.generic) or (isinstance(obj, np.ndarray) and not obj.ndim):
        return obj.item()
    if isinstance(obj, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": obj.tolist(), "dtype": obj.dtype.name}}
    if isinstance(obj, (list, tuple)):
        return type(obj)(map(serialize_keras_object, obj))
    if isinstance(obj, Mapping):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if hasattr(obj, "get_config") and not isinstance(obj, type):
        kind = type(obj)
        config = serialize_keras_object(obj.get_config())
        found = {"module": _module(kind), "class_name": kind.__name__, "config": config, "registered_name": _own(kind)}
        for more, method in (("build_config", "get_build_config"), ("compile_config", "get_compile_config")):
            if hasattr(obj, method) and (value := getattr(obj, method)()) is not None:
                found[more] = value
        return found
    name = getattr(obj, "__name__", "<lambda>")
    if not callable(obj) or isinstance(obj, type) or name == "<lambda>":
        raise TypeError(f"A config holds numbers, arrays, named functions, and objects with get_config; got {obj!r}.")
    name = get_registered_name(obj)
    if obj.__module__.startswith("gpumlp.") and obj not in _names:
        return function_named(name)
    return {"module": obj.__module__, "class_name": "function", "config": name, "registered_name": name}


def function_named(name: str) -> dict[str, object]:
    """Return the config dict of a function that Keras has, too."""
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}


def _module(kind: type) -> str | None:
    root, _, rest = kind.__module__.partition(".")
    if root == "keras":  # an object of Keras's own in one of ours, such as a SeedGenerator
        return "keras." + rest.split(".")[1]
    if rest.startswith("models."):
        return "keras"
    if root == "gpumlp":
        return f"keras.{rest if rest in MODULES else rest.partition('.')[0]}"  # of a package's module, the package
    return None if root == "__main__" else kind.__module__


def _own(kind: type) -> str | None:
    return None if kind.__module__.split(".")[0] in ("gpumlp", "keras") else get_registered_name(kind)


def read_by(module: str, get: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the ``deserialize`` of a module that Keras has by this name: ``get`` with names of a user's own.

    From now on `deserialize_keras_object` has ``get`` make what is of that module.
    """

    def deserialize(config: object, custom_objects: Mapping[str, object] | None = None) -> Any:
        """Return the object that a config describes.

        Parameters
        ----------
        config : dict or str
            As ``serialize`` of the same module returns it; a name, as ``get`` takes it.
        custom_objects : dict, optional
            Classes and functions of a user's own by name, that are not registered.

        Returns
        -------
        object
            What ``get`` of the same module returns for it.

        Raises
        ------
        TypeError, ValueError
            For what describes none.

        Examples
        --------
        >>> from gpumlp import initializers
        >>> initializers.deserialize(initializers.serialize(initializers.Constant(0.5)))
        Constant(value=0.5)
        """
        with custom_object_scope(custom_objects):
            return get(config)

    _readers[module] = get
    return deserialize


def deserialize_keras_object(config: object, custom_objects: Mapping[str, object] | None = None) -> Any:
    """Return what `serialize_keras_object`, here or in Keras, has made a config of.

    Parameters
    ----------
    config : dict, or whatever it returns
        Anything that is no such dict is returned as it is.
    custom_objects : dict, optional
        Classes and functions of a user's own by name, that are not registered.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        For what is of no module that is known, and has no name that was registered: no other code is loaded.

    Examples
    --------
    >>> from gpumlp import regularizers, saving
    >>> config = saving.serialize_keras_object(regularizers.L2(0.5))
    >>> saving.deserialize_keras_object(config) == regularizers.L2(0.5)
    True
    """
    with custom_object_scope(custom_objects):
        return _read(config)


def _read(config: object) -> Any:
    if isinstance(config, (list, tuple)):
        return type(config)(map(_read, config))
    if not isinstance(config, Mapping):
        return config
    name, inner = config.get("class_name"), config.get("config") or {}
    if name is None or "config" not in config:
        return {key: _read(value) for key, value in config.items()}
    if name in ("__numpy__", "__tensor__"):
        return np.array(inner["value"], inner["dtype"])
    title = inner if name == "function" else name
    for given in (config.get("registered_name"), title):
        if (found := naming.own(given)) is not None:
            return found if name == "function" else _compiled(found.from_config(inner), config)
    module = str(config.get("module"))
    if module.startswith("keras.src.models."):  # of models that have no name in public
        module = "keras"
    if (get := _readers.get(module)) is not None:
        return _compiled(get(config), config)
    raise ValueError(
        f"{title!r} of module {config.get('module')!r} is not known. Register it with register_keras_serializable, or "
        f"give it in custom_objects. Modules that are known: {', '.join(sorted(_readers))}."
    )


def _compiled(made: Any, config: Mapping[str, object]) -> Any:
    """Return a model, compiled as its config says; anything else as it is."""
    if config.get("compile_config") and hasattr(made, "compile_from_config"):
        made.compile_from_config(config["compile_config"])
    return made


class Configured(Attributes):
    """Base of what its config says all of: the values by which its constructor is called, attributes of these names."""

    def get_config(self) -> dict[str, object]:
        """Return what the constructor takes, as JSON can hold it.

        Returns
        -------
        dict
        """
        names = self._taken()
        if missing := [name for name in names if not hasattr(self, name)]:
            raise NotImplementedError(
                f"{type(self).__name__} needs a get_config of its own: its constructor takes {missing[0]!r}, which is "
                "no attribute of it."
            )
        return {name: serialize_keras_object(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Return a new object, as `get_config` has described one.

        Parameters
        ----------
        config : dict
            As `get_config` returns it.

        Returns
        -------
        object of the class
        """
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, others = vars(self), vars(other)
        return mine.keys() == others.keys() and all(_same(value, others[name]) for name, value in mine.items())

    def __hash__(self) -> int:
        return hash(type(self))  # values may be arrays, or change

    def __repr__(self) -> str:
        """Return how it is made, but for what is None and was not given."""
        return shown(self, always=self._taken())

    @classmethod
    def _taken(cls) -> list[str]:
        """Return the names of what the constructor takes."""
        return [name for name in taken_by(cls) if name != "**"]


def _same(one: object, other: object) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)  # type: ignore[arg-type]
