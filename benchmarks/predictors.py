"""The contenders that predict: one row a call, NumPy's array in and NumPy's array out.

As in contenders.py: each takes a workload and returns ``turn()``, here a call for each of its batches, one after the
other. Every one is the fastest of its library's documented ways that were tried, and its docstring says which were;
their microseconds a call are single observations, not rows. Before a turn is taken, what is predicted must be what
NumPy makes of the same weights in float64.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from contenders import Contenders, Turn, jax_network, jax_weights, keras_model, on_the_cpu, torch_network
from workloads import Workload

TOLERANCE = 1e-4  # of the largest output: float32 keeps within a few 1e-6 of it, operands rounded further do not


def calls(
    workload: Workload,
    predict: Callable[[np.ndarray], Any],
    context: Callable[[], AbstractContextManager] = nullcontext,
) -> Turn:
    """Return the turn that calls ``predict`` with each batch, all within one ``context()``.

    RuntimeError where what it returns is no NumPy array, or differs from the float64 truth.
    """
    x, truth = workload.data()[0], workload.outputs()
    batches = [x[i : i + workload.batch] for i in range(0, len(x), workload.batch)]
    with context():
        answers = [predict(batch) for batch in batches]
    if not all(isinstance(a, np.ndarray) for a in answers):
        raise RuntimeError(f"{type(answers[0]).__name__} came out, not a NumPy array.")
    worst = np.abs(np.concatenate(answers).reshape(truth.shape) - truth).max() / np.abs(truth).max()
    if not worst <= TOLERANCE:  # NaN is no agreement
        raise RuntimeError(f"its outputs differ from float64's by {worst:.2g} of the largest: not the same work.")

    def turn() -> None:
        with context():
            for batch in batches:
                predict(batch)

    return turn


def gpumlp_compiled(workload: Workload) -> Turn:
    """gpumlp's ``predict`` with its compiled kernels; ``model(x)`` is the same function."""
    model = on_the_cpu(workload, "compiled")
    return calls(workload, lambda x: model.predict(x, verbose=0))


def gpumlp_numpy(workload: Workload) -> Turn:
    """gpumlp's ``predict`` with NumPy (66)."""
    model = on_the_cpu(workload, "numpy")
    return calls(workload, lambda x: model.predict(x, verbose=0))


def torch_frozen(workload: Workload) -> Turn:
    """PyTorch's TorchScript, traced, frozen and optimized for inference, in one inference mode for all calls (65).

    It is deprecated, and still the fastest: eager 105, torch.compile 112, with frozen weights 111. One thread or two
    make no difference.
    """
    import torch

    net = torch_network(workload, "cpu").eval()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(net, torch.zeros(workload.batch, workload.sizes[0]))
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return calls(workload, lambda x: frozen(torch.from_numpy(x)).numpy(), torch.inference_mode)


def jax_jit(workload: Workload) -> Turn:
    """JAX's jitted function, the weights its constants (79 to 90; given as arguments 84 to 86, as compiled ahead)."""
    import jax

    params = jax_weights(workload)
    jitted = jax.jit(lambda x: jax_network(params, x))
    return calls(workload, lambda x: np.asarray(jitted(x)))


def keras_jax(workload: Workload) -> Turn:
    """Keras's ``stateless_call``, jitted by JAX (87; ``predict_on_batch`` 218, ``model(x)`` 2665)."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax

    model = keras_model(workload, "keras")
    trainable, other = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    jitted = jax.jit(lambda trainable, other, x: model.stateless_call(trainable, other, x)[0])
    return calls(workload, lambda x: np.asarray(jitted(trainable, other, x)))


def keras_tensorflow(workload: Workload) -> Turn:
    """Keras's model as a ``tf.function``, compiled by XLA (359; without XLA 393, ``predict_on_batch`` 774)."""
    os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
    import tensorflow as tf

    function = tf.function(keras_model(workload, "keras"), jit_compile=True)
    return calls(workload, lambda x: function(tf.convert_to_tensor(x)).numpy())


def scikit_learn(workload: Workload) -> Turn:
    """scikit-learn's ``predict``, given the same weights and told that all values are finite (122; not told, 134)."""
    import sklearn
    from sklearn.neural_network import MLPRegressor

    sklearn.set_config(assume_finite=True)
    x, y = workload.data()
    model = MLPRegressor(hidden_layer_sizes=workload.sizes[1:-1]).partial_fit(x[:2], y[:2, 0])
    arrays = workload.weights()
    model.coefs_, model.intercepts_ = arrays[::2], arrays[1::2]
    return calls(workload, model.predict)


PREDICTORS: Contenders = {  # ours first
    "gpumlp, compiled": (gpumlp_compiled, ("gpumlp", "numpy", "numba")),
    "gpumlp, NumPy": (gpumlp_numpy, ("gpumlp", "numpy")),
    "PyTorch, frozen TorchScript": (torch_frozen, ("torch",)),
    "JAX, jit": (jax_jit, ("jax",)),
    "Keras on JAX, jit": (keras_jax, ("keras", "jax")),
    "Keras on TensorFlow, tf.function": (keras_tensorflow, ("keras", "tensorflow")),
    "scikit-learn": (scikit_learn, ("scikit-learn",)),
}
