"""What Keras has and gpumlp has not: such a name can be imported, and says what to use instead when it is used.

Scripts import more than they use. So every public name of Keras (`gpumlp.keras_names`) that is not gpumlp's is a
`Missing` in the module where Keras has it, and modules that gpumlp has not are there, empty. What Keras has in several
places, and gpumlp in one of them, is found in all of them. None of it is listed by ``dir`` or in ``__all__``.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
import types
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from gpumlp.keras_names import NAMES

IMAGES = "For images, sequences of words and sound use Keras or PyTorch; series of numbers can be columns of x."
SETS = (
    "scikit-learn has data: sklearn.datasets.fetch_openml('mnist_784') and 'Fashion-MNIST', fetch_california_housing, "
    "load_iris, load_digits; or read a file of yours, by numpy.load or pandas.read_csv."
)
GRAPH = (
    "Sequential is what there is: a stack of layers, with one input and one output. Models can be layers of models, as "
    "in Sequential([encoder, decoder])."
)
LOOKUPS = (
    "Encode before training: scikit-learn's OneHotEncoder, OrdinalEncoder and KBinsDiscretizer, or pandas.get_dummies."
)
ONE_DTYPE = "A model is of float32 or float64: Sequential(layers, dtype=...), or config.set_floatx."
OPS = "gpumlp.ops has what losses, metrics and activations are made of (dir lists it); for arrays use NumPy."
# What there is instead: the first of these that a path matches counts.
INSTEAD: tuple[tuple[str, str], ...] = (
    ("datasets.*", SETS),
    ("preprocessing.text.* layers.TextVectorization *.make_sampling_table *.skipgrams *text_dataset*",
     "scikit-learn's CountVectorizer and TfidfVectorizer make numbers of texts."),
    ("layers.CategoryEncoding layers.*Lookup layers.Discretization layers.Hash* layers.DenseFeatures "
     "utils.FeatureSpace", LOOKUPS),
    ("layers.*Embedding", "Give categories as one-hot columns (utils.to_categorical): Dense on them is an embedding."),
    ("*timeseries* *.TimeseriesGenerator", "numpy.lib.stride_tricks.sliding_window_view cuts windows out of a series."),
    ("applications.* *.Conv* *Pool* *.UpSampling* *.ZeroPadding* *.Cropping* *.Separable* *.Depthwise* *image* "
     "*img *img_* layers.*RNN* layers.*LSTM* layers.*GRU* layers.*Attention layers.TimeDistributed "
     "layers.Bidirectional layers.LocallyConnected* preprocessing.* layers.Random* layers.*Spectrogram layers.Masking "
     "layers.AugMix layers.CutMix layers.MixUp layers.Resizing layers.CenterCrop layers.*Equalization "
     "layers.AutoContrast layers.Solarization layers.RandAugment layers.MaxNumBoundingBoxes layers.Spatial* "
     "utils.bounding_boxes.* visualization.* losses.CTC losses.ctc *audio*", IMAGES),
    ("models.Model Function KerasTensor layers.InputSpec Operation layers.Wrapper utils.get_source_inputs "
     "layers.*Layer layers.TorchModuleWrapper layers.Pipeline experimental.* layers.[Aa]dd layers.[Aa]verage "
     "layers.[Cc]oncatenate layers.[Dd]ot layers.[Mm]*imum layers.[Mm]ultiply layers.[Ss]ubtract", GRAPH),
    ("layers.*Normalization", "BatchNormalization, LayerNormalization and Normalization are there."),
    ("wrappers.*", "gpumlp.sklearn.MLPRegressor and MLPClassifier are estimators; so is a class of your own with a "
     "Sequential in it, and the methods fit and predict."),
    ("utils.model_to_dot", "utils.plot_model draws the model, with matplotlib."),
    ("utils.multi_gpu_model distribution.* device", "compile(device=...) says where a model runs."),
    ("mixed_precision.* dtype_policies.* *DTypePolicy quantizers.* *Quantizer", ONE_DTYPE),
    ("optimizers.legacy.*", "gpumlp.optimizers has them, with learning_rate= for lr=."),
    ("losses.Reduction", "Write the words themselves: reduction='sum_over_batch_size', 'sum' or 'none'."),
    ("utils.get_file", "urllib.request.urlretrieve(url, filename) fetches a file."),
    ("utils.split_dataset", "fit has validation_split=, and scikit-learn train_test_split."),
    ("utils.Progbar", "fit, evaluate and predict show their progress by themselves: verbose=1."),
    ("config.set_backend", "compile(device=...) says where a model runs, and GPUMLP_KERNELS by which kernels."),
    ("backend.*set_value", "Assign: optimizer.learning_rate = v, variable.assign(v), model.set_weights(arrays)."),
    ("backend.*get_value", "Ask: float(optimizer.learning_rate), variable.numpy(), model.get_weights()."),
    ("ops.*crossentropy", "gpumlp.losses has it, for formulas and for arrays."),
    ("ops.gelu", "activations.gelu(x, approximate=True) is it, in formulas, too."),  # the default is another there
    ("ops.* backend.* tree.*", OPS),
    ("random.*", "Use numpy.random; utils.set_random_seed seeds it, too."),
    ("export.*", "model.get_weights() has the arrays, and a Dense layer is activation(x @ kernel + bias)."),
)  # fmt: skip
LATER = ("check", "interop", "sklearn")  # gpumlp's own modules that are imported when they are first asked for
LIKE = {"models.Model": "models.Sequential"}  # isinstance(model, Model) holds for what takes its place


class Missing:
    """A name of Keras's that gpumlp has not: it can be imported; called or subclassed, it says what to use instead."""

    def __init__(self, path: str, known: str) -> None:
        self._path, self._known = path, known
        self.__doc__ = f"gpumlp has no keras.{path}. {instead(known)}"

    def __call__(self, *args: object, **kwargs: object) -> Any:
        raise NotImplementedError(self.__doc__)

    def __mro_entries__(self, bases: object) -> Any:
        raise NotImplementedError(self.__doc__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python's, and what notebooks ask of everything
            raise AttributeError(name)
        raise AttributeError(self.__doc__)

    def __instancecheck__(self, thing: object) -> bool:
        kind = _real(LIKE[self._known]) if self._known in LIKE else None
        return kind is not None and isinstance(thing, kind)

    def __subclasscheck__(self, kind: type) -> bool:
        return False

    def __or__(self, other: object) -> Any:
        return Any  # in an annotation

    __ror__ = __or__

    def __repr__(self) -> str:
        return f"<keras.{self._path}, which gpumlp has not>"


def instead(path: str) -> str:
    """Return what there is instead of a name of Keras's, in words."""
    found = (words for patterns, words in INSTEAD if any(fnmatchcase(path, p) for p in patterns.split()))
    return next(found, f"dir({_full(path.rpartition('.')[0])}) lists what there is.")


def install() -> None:
    """Have every module of the package know Keras's names, and those that it has not be importable, without a file."""
    for path in NAMES:
        name = _full(path)
        if name not in sys.modules:
            module: Any = types.ModuleType(
                name, f"Names of keras.{path}: what gpumlp has elsewhere, and what it has not."
            )
            module.__path__ = module.__all__ = []
            module.__dir__ = functools.partial(_found, path)
            sys.modules[name] = module
        vars(sys.modules[name])["__getattr__"] = functools.partial(_look_up, path)


def _full(module: str) -> str:
    return f"gpumlp.{module}".rstrip(".")


def _found(module: str) -> list[str]:
    """Return which names of an empty module gpumlp has elsewhere."""
    return [name for name in _known(module) if not isinstance(_look_up(module, name), Missing)]


def _look_up(module: str, name: str) -> Any:
    """Return what ``module`` has by a name that is not its own; AttributeError where Keras has none either."""
    if name.startswith("_"):
        raise AttributeError(f"module {_full(module)!r} has no attribute {name!r}")
    inner = f"{module}.{name}".lstrip(".")
    if inner in LATER:
        return importlib.import_module(_full(inner))
    if inner in NAMES:
        return sys.modules[_full(inner)]
    known = _known(module)
    if name not in known:
        near = difflib.get_close_matches(name, {*known, *vars(sys.modules[_full(module)])}, n=1)
        hint = f" Did you mean {near[0]!r}?" if near and not near[0].startswith("_") else ""
        raise AttributeError(f"module {_full(module)!r} has no attribute {name!r}.{hint}")
    for path in _places(known[name]):
        if (found := _real(path)) is not None:
            return found
    return _missing(inner, known[name])


@functools.cache
def _known(module: str) -> dict[str, str]:
    """Return the names that Keras has in a module, each with the path by which the thing is known."""
    found = {}
    for entry in NAMES[module].split():
        name, _, path = entry.partition("=")
        found[name] = (path + name if path[-1:] == "." else path) or f"{module}.{name}".lstrip(".")
    return found


def _places(path: str) -> list[str]:
    """Return where the thing that is known by ``path`` may be: there, or where Keras has it or its twin."""
    others = (f"{m}.{name}".lstrip(".") for m in NAMES for name, known in _known(m).items() if known == path)
    module, _, name = path.rpartition(".")
    return [path, *others, *([f"activations.{name}"] if module == "ops" and name != "gelu" else ())]


def _real(path: str) -> Any:
    """Return what gpumlp itself has at ``path``; None where it has nothing."""
    module, _, name = path.rpartition(".")
    return vars(sys.modules[_full(module)]).get(name) if _full(module) in sys.modules else None


_missing: Callable[[str, str], Missing] = functools.cache(Missing)
