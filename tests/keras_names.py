"""Write `gpumlp/keras_names.py`: every public name of Keras, of which gpumlp says what it has instead.

    .venv-parity/bin/python tests/keras_names.py [--check]

The names are read off the installed Keras, as its own users and those of tf.keras import them, so with the names of
Keras 2 that it keeps; OLDER has those that it does not, and that scripts still import. ``--check`` changes nothing and
exits with 1 where the file is not Keras's; `tests/parity.py` does so, too.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

FILE = Path(__file__).parents[1] / "gpumlp" / "keras_names.py"
HEAD = '''"""The public names of Keras {version}, by module; written by tests/keras_names.py.

``name=path`` is what stands at that path, too; a path that ends with a dot goes on with the name. `gpumlp.missing`
says what becomes of those that gpumlp has not.
"""

NAMES = {{
'''
# Of tf.keras 2 and of Keras before it, by module; "=" where Keras 3 has the name elsewhere.
OLDER = {
    "utils.np_utils": "to_categorical=utils.to_categorical normalize=utils.normalize",
    "utils.vis_utils": "plot_model=utils.plot_model model_to_dot=utils.model_to_dot",
    "utils": "multi_gpu_model=",
    "wrappers.scikit_learn": "KerasClassifier= KerasRegressor=",
    "layers.core": "Activation Dense Dropout Flatten Lambda Masking Permute RepeatVector Reshape",
    "layers.normalization": "BatchNormalization LayerNormalization",
    "layers.advanced_activations": "ELU LeakyReLU PReLU ReLU Softmax",
    "layers.noise": "AlphaDropout GaussianDropout GaussianNoise",
    "layers.merge": "Add Average Concatenate Dot Maximum Multiply Subtract add average concatenate dot multiply",
    "layers.embeddings": "Embedding",
    "layers.convolutional": "Conv1D Conv2D Conv3D Conv2DTranspose MaxPooling1D MaxPooling2D UpSampling2D ZeroPadding2D",
    "layers.pooling": "AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D MaxPooling1D MaxPooling2D",
    "layers.recurrent": "GRU LSTM SimpleRNN",
    "layers.wrappers": "Bidirectional TimeDistributed",
    "layers.experimental.preprocessing": "CategoryEncoding CenterCrop Discretization Hashing IntegerLookup "
    "Normalization RandomContrast RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom Rescaling Resizing "
    "StringLookup TextVectorization",
    "layers": "CuDNNGRU= CuDNNLSTM= DenseFeatures= LocallyConnected1D= LocallyConnected2D= ThresholdedReLU=",
    "losses": "Reduction=",
    "backend": "abs=ops. argmax=ops. cast=ops. clip=ops. cos=ops. equal=ops. exp=ops. expand_dims=ops. greater=ops. "
    "greater_equal=ops. less=ops. less_equal=ops. log=ops. max=ops. maximum=ops. mean=ops. min=ops. minimum=ops. "
    "not_equal=ops. ones_like=ops. pow=ops.power prod=ops. relu=ops. round=ops. sigmoid=ops. sign=ops. sin=ops. "
    "softmax=ops. softplus=ops. sqrt=ops. square=ops. squeeze=ops. std=ops. sum=ops. switch=ops.where "
    "tanh=ops. var=ops. zeros_like=ops.",
    "estimator": "model_to_estimator=",
    "experimental": "CosineDecay=optimizers.schedules.CosineDecay LinearModel= WideDeepModel=",
}


def objects() -> dict[str, object]:
    """Return what Keras has, by its path without the first "keras."; modules too."""
    found: dict[str, object] = {}
    for root in ("keras", "keras._tf_keras.keras"):
        top = importlib.import_module(root)
        modules = [m.name for m in pkgutil.walk_packages(top.__path__, root + ".") if m.ispkg]
        private = (root + ".src", root + "._tf_keras")
        for name in [root, *(m for m in modules if not m.startswith(private))]:
            module, path = importlib.import_module(name), name.removeprefix(root).lstrip(".")
            found[path] = module
            for key, value in vars(module).items():
                if not key.startswith("_") and key != "src":
                    found.setdefault(f"{path}.{key}".lstrip("."), value)
    return found


def first(paths: list[str]) -> str:
    """Return by which of several paths a thing is known: in a module of the first level, the longest name there."""
    return min(paths, key=lambda path: (abs(path.count(".") - 1), -len(path), path))


def entry(name: str, path: str) -> str:
    """Return a name, and where the thing is known: as in the file."""
    if not path:
        return name
    return f"{name}={path.removesuffix(name) if path.endswith('.' + name) else path}"


def names() -> dict[str, list[str]]:
    """Return the entries of each module."""
    found = objects()
    modules = {path for path, value in found.items() if type(value).__name__ == "module"}
    paths = defaultdict(list)
    for path, value in found.items():
        if path not in modules and (callable(value) or isinstance(value, type)):
            paths[id(value)].append(path)
    same = {path: first(alike) for alike in paths.values() for path in alike}
    entries: dict[str, set[str]] = {path: set() for path in modules}
    for path in found:
        module, _, name = path.rpartition(".")
        if path not in modules and name:
            entries[module].add(entry(name, "" if same.get(path, path) == path else same[path]))
    for module, words in OLDER.items():
        for word in words.split():
            name, told, path = word.partition("=")
            path = path if told else f"layers.{name}"  # an old module of layers
            entries.setdefault(module, set()).discard(name)  # the legacy one
            entries[module].add(entry(name, path))
        for i in range(module.count(".") + 1):
            entries.setdefault(".".join(module.split(".")[:i]), set())
    return {module: sorted(entries[module]) for module in sorted(entries)}


def text() -> str:
    """Return what the file must hold."""
    import keras

    lines = [HEAD.format(version=keras.__version__)]
    for module, entries in names().items():
        words = textwrap.wrap(" ".join(entries), 112, break_on_hyphens=False, break_long_words=False)
        lines.append(f'    "{module}": """\n' + "".join(f"        {line}\n" for line in words) + '    """,\n')
    return "".join([*lines, "}\n"])


def check() -> int:
    """Print whether the file is the installed Keras's; return 1 if it is not."""
    current = FILE.read_text(encoding="utf-8") == text()
    print(f"{FILE.name}: {'is current' if current else 'FAIL  run tests/keras_names.py'}")
    return 0 if current else 1


def main() -> int:
    """Write or check; return the exit status."""
    if "--check" in sys.argv[1:]:
        return check()
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
