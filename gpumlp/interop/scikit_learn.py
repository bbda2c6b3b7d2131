"""Models from scikit-learn's MLPRegressor and MLPClassifier, and as these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpumlp import layers
from gpumlp.activations import Activation
from gpumlp.interop.placed import OUTPUT, Placed, imported, is_estimator, is_packaged, layers_of
from gpumlp.models import Sequential

INSTALL = "pip install scikit-learn"
HIDDEN = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}  # theirs: ours
ABSENT = (layers.Input, layers.Identity, layers.OfNoise, layers.ActivityRegularization)  # as far as predictions go


def from_sklearn(estimator: Any, dtype: str | None = None) -> Sequential:
    """Return a model that predicts what a fitted MLPRegressor or MLPClassifier of scikit-learn does.

    A classifier's model gives probabilities, as ``predict_proba``: for two classes one output, the probability of
    ``estimator.classes_[1]``. The model is not compiled: it can predict, and be compiled and trained on.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPRegressor or MLPClassifier
        Fitted. One of `gpumlp.sklearn`, of one network, is taken, too.
    dtype : {"float32", "float64"}, optional
        Of the model; ``gpumlp.config.floatx()`` when None. With the estimator's own, mostly float64, predictions are
        equal to the last digits.

    Returns
    -------
    Sequential
        Of `Dense` layers.

    Raises
    ------
    TypeError
        For any other estimator.
    ValueError
        For one that is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> from gpumlp import interop
    >>> x = np.linspace(0, 1, 20)[:, None]
    >>> estimator = MLPRegressor(hidden_layer_sizes=[8], solver="lbfgs", random_state=0)
    >>> model = interop.from_sklearn(estimator.fit(x, x[:, 0] ** 2))
    >>> prediction = model.predict(x, verbose=0)[:, 0]
    >>> bool(np.allclose(prediction, estimator.predict(x), atol=1e-5))
    True
    """
    network = imported("sklearn.neural_network", "from_sklearn", INSTALL)
    if is_estimator(estimator):
        estimator = to_sklearn(estimator)
    if not isinstance(estimator, (network.MLPRegressor, network.MLPClassifier)):
        raise TypeError(f"from_sklearn takes an MLPRegressor or MLPClassifier; got {estimator!r}.")
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"from_sklearn takes a fitted estimator; {estimator!r} has no weights yet: call fit first.")
    kernels, hidden = estimator.coefs_, HIDDEN[estimator.activation]
    functions = [hidden] * (len(kernels) - 1) + [OUTPUT[estimator.out_activation_]]
    stack = [layers.Dense(kernel.shape[1], how) for kernel, how in zip(kernels, functions, strict=True)]
    model = Sequential([layers.Input((kernels[0].shape[0],)), *stack], dtype=dtype)
    model.set_weights([a for pair in zip(kernels, estimator.intercepts_, strict=True) for a in pair])
    return model


def to_sklearn(model: Sequential, classes: Sequence[Any] | None = None) -> Any:
    """Return a fitted MLPRegressor or MLPClassifier of scikit-learn that predicts what the model does.

    The last layer's activation says which: linear makes a regressor, sigmoid over one unit or softmax a classifier,
    sigmoid over several units one of labels that do not exclude each other. ``partial_fit`` trains it on.

    Parameters
    ----------
    model : Sequential
        Built; or a fitted estimator of `gpumlp.sklearn`, of one network. Of `Dense` layers, whose activations but the
        last are one of linear, sigmoid, tanh and relu. Dropout and noise are left out.
    classes : sequence, optional
        The labels of a classifier, in the order of the outputs and sorted, as scikit-learn has them; when None those
        of the estimator, or 0, 1, 2, ...

    Returns
    -------
    sklearn.neural_network.MLPRegressor or MLPClassifier
        With ``coefs_`` and ``intercepts_`` of its own, of the model's dtype. Softmax over two units becomes what
        scikit-learn has for two classes: one output, of the difference of both.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError
        For what is no `Sequential`.
    ValueError
        For a model that is not built, or of which scikit-learn has no like, and for labels that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from gpumlp import Sequential, interop, layers
    >>> model = Sequential(
    ...     [layers.Input((2,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax")]
    ... )
    >>> estimator = interop.to_sklearn(model, classes=["ant", "bee", "fly"])
    >>> estimator.predict_proba(np.zeros((1, 2))).round(3)
    array([[0.333, 0.333, 0.333]])
    """
    dense = _dense_of(layers_of(model, "to_sklearn"))
    classes = getattr(model, "classes_", None) if classes is None else classes  # an estimator's
    kernels, biases = [kernel for kernel, _, _, _ in dense], [bias for _, bias, _, _ in dense]
    *hidden, last = [how for _, _, how, _ in dense]
    theirs = {ours: name for name, ours in HIDDEN.items()}
    if wrong := [each for _, _, how, each in dense[:-1] if how not in theirs or how != hidden[0]]:
        raise wrong[0].refusal(
            "scikit-learn", "its hidden layers have one activation, one of linear, sigmoid, tanh and relu",
            "interop.to_onnx writes all.",
        )  # fmt: skip
    if last not in ("linear", "sigmoid", "softmax") or (last == "softmax" and kernels[-1].shape[1] == 1):
        raise dense[-1][3].refusal(
            "scikit-learn", "its outputs are linear, sigmoid, or softmax over several", "interop.to_onnx writes all."
        )
    if last == "softmax" and kernels[-1].shape[1] == 2:
        kernels[-1], biases[-1] = (a[..., 1:] - a[..., :1] for a in (kernels[-1], biases[-1]))
    network = imported("sklearn.neural_network", "to_sklearn", INSTALL)
    given = {"hidden_layer_sizes": [len(bias) for bias in biases[:-1]], "activation": theirs[(hidden or ["relu"])[0]]}
    made: Any
    if last == "linear":
        if classes is not None:
            raise ValueError("classes are a classifier's; the model's last layer is linear, which makes a regressor.")
        made = network.MLPRegressor(**given)
        _begin(made, kernels, np.zeros((1, len(biases[-1])) if len(biases[-1]) > 1 else 1))
    else:
        made = network.MLPClassifier(**given)
        labels, targets = _labels(last, len(biases[-1]), classes)
        _begin(made, kernels, targets, labels)
    made.coefs_, made.intercepts_ = kernels, biases
    return made


def _dense_of(found: list[Placed]) -> list[tuple[np.ndarray, np.ndarray, str, Placed]]:
    """Return kernel, bias, activation and layer of each Dense; ValueError where there is another layer."""
    dense: list[tuple[np.ndarray, np.ndarray, str, Placed]] = []
    for each in found:
        layer = each.layer
        if isinstance(layer, layers.Dense) and len(each.shape) == 1:
            kernel = each.weights["kernel"]
            bias = each.weights.get("bias", np.zeros(layer.units, kernel.dtype))
            dense.append((kernel, bias, _name(layer.activation), each))
        elif isinstance(layer, (layers.Activation, layers.Softmax)) and dense and dense[-1][2] == "linear":
            dense[-1] = (*dense[-1][:2], _name(layer.activation), each)
        elif not isinstance(layer, ABSENT):
            raise each.refusal(
                "scikit-learn", "its networks are Dense layers over samples of one axis, each with an activation",
                "Have the model be made of these; a scaling of inputs goes into a pipeline, as a StandardScaler.",
            )  # fmt: skip
    if not dense:
        raise ValueError("A model without Dense layers cannot be brought to scikit-learn.")
    return dense


def _name(activation: Activation) -> str:
    """Return an activation's name, with its constants; "" for a function of a user's own, whatever that is called."""
    return repr(activation) if is_packaged(activation) else ""


def _labels(last: str, outputs: int, classes: Sequence[Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a classifier's labels, and targets that have all of them."""
    several = last == "sigmoid" and outputs > 1
    count = 2 if outputs == 1 else outputs
    labels = np.arange(count) if classes is None else np.asarray(classes)
    if labels.shape != (count,) or not np.array_equal(np.unique(labels), labels):
        raise ValueError(f"classes must be {count} sorted labels, one for each class of the model; got {classes!r}.")
    if several and not np.array_equal(labels, np.arange(count)):
        raise ValueError("Labels that do not exclude each other are the outputs' numbers: classes must be None.")
    return labels, np.eye(count, dtype=int) if several else labels


def _begin(estimator: Any, kernels: list[np.ndarray], targets: np.ndarray, classes: np.ndarray | None = None) -> None:
    """Have scikit-learn set up all that a fitted estimator has, by a step on zeros; then nothing was trained."""
    inputs = np.zeros((len(targets), len(kernels[0])), kernels[0].dtype)
    estimator.set_params(random_state=0)  # the weights that it draws are not kept: NumPy's own generator is left alone
    estimator.partial_fit(inputs, targets, **({} if classes is None else {"classes": classes}))
    estimator.set_params(random_state=None)
    estimator.n_iter_ = estimator.t_ = estimator._no_improvement_count = 0
    estimator.loss_ = estimator.best_loss_ = math.inf
    estimator.loss_curve_ = []
    vars(estimator).pop("_optimizer", None)  # it would go on with the moments of that step
