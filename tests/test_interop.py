"""Models for other software, and from it: what that computes is held against what the model predicts."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from gpumlp import Sequential, activations, interop, layers, losses, ops
from gpumlp import sklearn as ours

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed: on Linux PyPI's brings gigabytes")
OPSETS = (18, 20, onnx.defs.onnx_opset_version())
LOWEST = {"variance": 0.5, "moving_variance": 0.5}  # of what a root is taken of


def built(shape, *stack, dtype="float32"):
    """Return a model whose weights are all random: those that are 0 or 1 at first, too."""
    model = Sequential([layers.Input(shape), *stack], dtype=dtype)
    rng = np.random.default_rng(7)
    model.set_weights(
        [rng.uniform(0.5, 2.0, w.shape) if w.name in LOWEST else rng.normal(0, 0.5, w.shape) for w in model.weights]
    )
    return model


def data(shape, n=33, scale=2.0):
    return np.random.default_rng(3).normal(0, scale, (n, *shape)).astype(np.float32)


def close(found, expected, dtype=np.float32):
    """Whether two results differ by a few roundings of their type."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=16 * np.finfo(dtype).eps * (1 + np.abs(expected).max()))


# ---- ONNX ------------------------------------------------------------------------------------------------------------
def run_onnx(made, x):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": x})[0]


def held(model, shape, opset=20):
    made = interop.to_onnx(model, opset=opset)
    onnx.checker.check_model(made, full_check=True)
    for n in (33, 1):  # any number of samples
        x = data(shape, n)
        close(run_onnx(made, x), model.predict(x, verbose=0))
    return made


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", sorted(activations.KNOWN))
def test_onnx_activations(name, opset):
    held(built((6,), layers.Dense(9, name)), (6,), opset)


CONSTANTS = [
    activations.relu.given(max_value=1.5), activations.relu.given(negative_slope=0.1, threshold=0.3),
    activations.leaky_relu.given(negative_slope=0.05), activations.elu.given(alpha=0.7),
    activations.celu.given(alpha=2.0), activations.gelu.given(approximate=True),
    activations.threshold.given(threshold=0.5, default_value=-3.0), activations.squareplus.given(b=1.5),
    activations.soft_shrink.given(threshold=0.1), activations.hard_shrink.given(threshold=0.9),
]  # fmt: skip


@pytest.mark.parametrize("activation", CONSTANTS, ids=repr)
def test_onnx_activations_with_constants(activation):
    held(built((6,), layers.Dense(9, activation)), (6,))


SHAPED = {
    "dense": ((4, 6), [layers.Dense(3, "tanh", use_bias=False), layers.Dense(5, "softmax")]),
    "softmax": ((4, 6, 3), [layers.Softmax(axis=2)]),
    "softmax of two axes": ((4, 6, 3), [layers.Softmax(axis=(1, 3))]),
    "activations": ((6,), [layers.ReLU(), layers.LeakyReLU(), layers.ELU(0.3), layers.Activation("silu")]),
    "prelu": ((4, 6), [layers.PReLU()]),
    "prelu shared": ((4, 6), [layers.PReLU(shared_axes=[1])]),
    "batch normalization": ((6,), [layers.BatchNormalization()]),
    "batch normalization of rows": ((4, 6), [layers.BatchNormalization(axis=1, scale=False, center=False)]),
    "layer normalization": ((4, 6), [layers.LayerNormalization()]),
    "layer normalization of rows": ((4, 6, 3), [layers.LayerNormalization(axis=1, scale=False)]),
    "layer normalization of two axes": ((4, 6, 3), [layers.LayerNormalization(axis=(1, 3), center=False)]),
    "unit normalization": ((4, 6), [layers.UnitNormalization(axis=(1, 2))]),
    "normalization": ((4, 6), [layers.Normalization(axis=1)]),
    "normalization given": ((6,), [layers.Normalization(mean=[1.0], variance=[0.25], invert=True)]),
    "normalization of all": ((4, 6), [layers.Normalization(axis=None)]),
    "rescaling": ((6,), [layers.Rescaling(0.5, [0, 1, 2, 3, 4, 5]), layers.Rescaling(3.0)]),
    "shapes": (
        (4, 6, 3),
        [
            layers.Permute((3, 1, 2)), layers.Reshape((8, -1)), layers.Flatten("channels_first"), layers.Dense(5),
            layers.RepeatVector(3), layers.Flatten(),
        ],
    ),
    "what predictions leave out": (
        (6,),
        [
            layers.Dropout(0.5), layers.AlphaDropout(0.2), layers.GaussianNoise(0.1), layers.GaussianDropout(0.3),
            layers.ActivityRegularization(l2=0.1), layers.Identity(), layers.Dense(2, activity_regularizer="l2"),
        ],
    ),
    "models in models": ((6,), [Sequential([layers.Dense(4, "relu"), layers.Dense(3)]), layers.Dense(2)]),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPED)
def test_onnx_layers(case):
    shape, stack = SHAPED[case]
    held(built(shape, *stack), shape)


def test_every_layer_has_an_onnx_case():
    seen = {type(layer) for _, stack in SHAPED.values() for layer in stack} | {layers.Input, layers.Lambda}
    assert seen >= set(layers.KINDS)


FUNCTIONS = {
    "columns": lambda x: ops.where(x[:, 0:1] > 0.5, x * x[:, 1:2], ops.log1p(ops.abs(x))),
    "row": lambda x: (x - ops.mean(x, -1, keepdims=True)) / (1.0 + ops.std(x, -1, keepdims=True)),
    "largest": lambda x: ops.maximum(x, 0.5 * ops.max(x, -1, keepdims=True)) - ops.logsumexp(x, -1, keepdims=True),
    "places": lambda x: x * ops.one_hot(ops.argmax(x, -1)) + ops.cast(x, "int32"),
    "logic": lambda x: ops.where((x > 0.2) & ~(x > 1.0) | (x < -1.0), ops.sin(x), ops.round(x)),
    "powers": lambda x: ops.power(1.0 + ops.square(x), 0.3) + x**3 - ops.sqrt(ops.abs(x)) + ops.erf(x) * ops.cos(x),
    "small": lambda x: ops.expm1(1e-4 * x) * 1e4 + ops.log1p(1e-4 * ops.sigmoid(x)) * 1e4,
    "steps": lambda x: ops.step(x) + ops.sign(x) * ops.floor(x) + ops.softplus(x) + ops.log_softmax(x),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_onnx_of_ones_own_functions(case):
    held(built((6,), layers.Lambda(FUNCTIONS[case])), (6,))


def test_onnx_far_out():
    model = built((6,), layers.Lambda(lambda x: ops.expm1(x) + ops.log1p(ops.exp(x))))
    x = np.array([[-1e3, -90.0, -1e-6, 1e-6, 20.0, 60.0]], np.float32)
    np.testing.assert_allclose(run_onnx(interop.to_onnx(model), x), model.predict(x, verbose=0), rtol=1e-6)


def test_onnx_looks_like_what_it_is(tmp_path):
    model = built((6,), layers.Dense(4, "relu", name="first"), layers.Dense(1))
    made = interop.to_onnx(model)
    assert interop.to_onnx(model, tmp_path / "m.onnx") is None
    assert [node.op_type for node in made.graph.node] == ["Gemm", "Relu", "Gemm", "Identity"]
    assert {"first/kernel", "first/bias"} < {array.name for array in made.graph.initializer}
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert onnx.load(tmp_path / "m.onnx") == made
    model.export(tmp_path / "e.onnx", format="onnx", opset_version=19)
    assert onnx.load(tmp_path / "e.onnx") == interop.to_onnx(model, opset=19)
    wide = built((6,), layers.Dense(4, "gelu"), dtype="float64")
    close(run_onnx(interop.to_onnx(wide), data((6,))), wide.predict(data((6,)), verbose=0).astype(np.float32))


def test_onnx_of_layers_that_share_a_name():
    def half(*stack):
        return Sequential([layers.Dense(6, "tanh", name="hidden"), *stack])

    model = built((6,), half(), half(layers.LayerNormalization(name="hidden_1")), half())
    made = held(model, (6,))
    names = [array.name for array in made.graph.initializer if array.name.endswith("kernel")]
    assert names == ["hidden/kernel", "hidden_1/kernel", "hidden_2/kernel"]


def test_onnx_refuses():
    model = built((6,), layers.Dense(1))
    with pytest.raises(ValueError, match="opset must be 18 to"):
        interop.to_onnx(model, opset=17)
    with pytest.raises(ValueError, match="to_onnx needs a built model"):
        interop.to_onnx(Sequential([layers.Dense(1)]))
    with pytest.raises(TypeError, match="to_onnx takes a Sequential; got 3"):
        interop.to_onnx(3)
    with pytest.raises(NotImplementedError, match="gpumlp exports format='onnx'"):
        model.export("m")
    with pytest.raises(NotImplementedError, match="export works with input_signature=None only"):
        model.export("m", format="onnx", input_signature=[1])


# ---- PyTorch ---------------------------------------------------------------------------------------------------------
def test_a_state_dict_has_what_torch_would():
    """By hand, as torch computes: it needs no torch."""
    model = built(
        (6,), layers.Dense(4, "relu"), layers.BatchNormalization(epsilon=1e-2), layers.PReLU(),
        layers.LayerNormalization(center=False), layers.Dropout(0.5), layers.Dense(2, use_bias=False),
    )  # fmt: skip
    state = interop.to_torch(model)
    assert list(state) == [
        "0.weight", "0.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var", "2.num_batches_tracked",
        "3.weight", "4.weight", "4.bias", "6.weight",
    ]  # fmt: skip
    assert all(isinstance(array, np.ndarray) for array in state.values())
    x = data((6,))
    y = np.maximum(x @ state["0.weight"].T + state["0.bias"], 0)
    y = (y - state["2.running_mean"]) / np.sqrt(state["2.running_var"] + 1e-2) * state["2.weight"] + state["2.bias"]
    y = np.where(y > 0, y, state["3.weight"] * y)
    mean, variance = y.mean(1, keepdims=True), y.var(1, keepdims=True)
    y = (y - mean) / np.sqrt(variance + 1e-3) * state["4.weight"] + state["4.bias"]
    close(y @ state["6.weight"].T, model.predict(x, verbose=0))


def test_a_state_dict_comes_back():
    def make():
        return [layers.Dense(4), layers.BatchNormalization(scale=False), layers.PReLU(), layers.Dense(2)]

    model, other = built((6,), *make()), Sequential([layers.Input((6,)), *make()])
    state = interop.to_torch(model)
    del state["1.num_batches_tracked"]  # older ones have none
    interop.from_torch(other, state)
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": np.zeros((6, 4))}, r"0.weight must have shape \(4, 6\); got \(6, 4\)"),
        ({"0.bias": None}, "it lacks 0.bias, and has beside these nothing"),
        ({"7.bias": np.zeros(4)}, "lacks nothing, and has beside these 7.bias"),
        ({"1.weight": np.full(4, 2.0)}, "1.weight must be 1 throughout: .* made without it"),
        ({"0.bias": np.array([0, 1, np.nan, 2])}, "0.bias must have numbers that are finite in float32; got nan"),
        ({"1.bias": np.array([0, 1e300, 2, 3])}, r"1.bias must have numbers that are finite in float32; got 1e\+300"),
        ({"1.running_var": np.array([1, 0, -0.5, 2])}, "1.running_var must be variances, .* below 0; got -0.5"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, message):
    model = built((6,), layers.Dense(4), layers.BatchNormalization(scale=False))
    before = model.get_weights()
    state = {name: array for name, array in (interop.to_torch(model) | change).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        interop.from_torch(model, state)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(TypeError, match="from_torch takes a state dict"):
        interop.from_torch(model, [1.0])
    with pytest.raises(TypeError, match=r"a torch.nn.Module that has one; got .*Layer"):
        interop.from_torch(model, type("Layer", (), {"state_dict": lambda self: {}}))  # a class, not a module of it


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3, "sparsemax", name="it"), layers.Normalization(name="it"), layers.GaussianNoise(0.1, name="it"),
        layers.Lambda(ops.square, name="it"), layers.BatchNormalization(2, name="it"),
        layers.LayerNormalization(1, name="it"), layers.PReLU(name="it"), layers.Softmax((1, 2), name="it"),
        layers.Dropout(0.1, noise_shape=(None, 1, 6), name="it"), layers.Flatten("channels_first", name="it"),
        layers.ReLU(1.0, 0.1, name="it"), layers.ReLU(max_value=0.0, name="it"), layers.Permute((2, 1), name="it"),
    ],
)  # fmt: skip
def test_torch_refuses_by_name(layer):
    with pytest.raises(ValueError, match=rf"{type(layer).__name__} layer 'it' cannot be brought to PyTorch: .*\."):
        interop.to_torch(built((4, 6), layer))


@needs_torch
@pytest.mark.parametrize(
    ("shape", "stack"),
    [
        *(((6,), [layers.Dense(9, name)]) for name in sorted(interop.torch_modules.ACTIVATIONS)),
        *(((6,), [layers.Dense(9, each)]) for each in [*CONSTANTS[2:7], *CONSTANTS[8:], CONSTANTS[0]]),
        ((6,), [layers.ReLU(threshold=0.5), layers.ReLU(negative_slope=0.1), layers.Softmax(), layers.Identity()]),
        ((4, 6), [layers.PReLU(shared_axes=[2]), layers.BatchNormalization(1), layers.LayerNormalization((1, 2))]),
        ((4, 6), [layers.Dense(3, "relu"), layers.Softmax(1), layers.Reshape((2, 6)), layers.Flatten()]),
        (
            (6,),
            [
                layers.Dense(5, "elu"), layers.BatchNormalization(), layers.AlphaDropout(0.1),
                layers.Reshape((5, 1)), layers.Flatten(), layers.ActivityRegularization(0.1), layers.PReLU(),
                layers.LayerNormalization(), layers.Dropout(0.1), layers.Dense(2, use_bias=False),
            ],
        ),
    ],
    ids=lambda value: "-".join(type(part).__name__ for part in value) if isinstance(value, list) else None,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_computes_the_same(shape, stack, dtype):
    parts = [type(layer).from_config(layer.get_config() | {"dtype": dtype}) for layer in stack]
    model = built(shape, *parts, dtype=dtype)
    module = interop.torch_module(model)
    x = data(shape).astype(dtype)
    found = module(torch.from_numpy(x)).detach().numpy()
    close(found, model.predict(x, verbose=0), dtype)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(0.5)
    interop.from_torch(model, module)
    close(module(torch.from_numpy(x)).detach().numpy(), model.predict(x, verbose=0), dtype)


def test_without_the_other_software_it_says_what_to_install():
    code = (
        "import sys, numpy; sys.modules |= {'torch': None, 'onnx': None, 'sklearn.neural_network': None}\n"
        "from gpumlp import Sequential, interop, layers\n"
        "model = Sequential([layers.Input((2,)), layers.Dense(1)])\n"
        "for work in (interop.to_onnx, interop.torch_module, interop.to_sklearn):\n"
        "    try: work(model)\n"
        "    except ImportError as error: print(error)\n"
        "interop.from_torch(model, interop.to_torch(model))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'gpumlp[onnx]'" in out and "https://pytorch.org" in out and "pip install scikit-learn" in out


# ---- scikit-learn ----------------------------------------------------------------------------------------------------
def fitted(kind, targets, **more):
    return kind(max_iter=20, solver="lbfgs", random_state=0, **more).fit(data((5,), 60).astype(float), targets)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("case", ["regressor", "outputs", "two", "three", "labels"])
def test_scikit_learn_both_ways(case, activation):
    x = data((5,), 60).astype(float)
    targets = {
        "regressor": x[:, 0], "outputs": x[:, :3], "two": np.where(x[:, 0] > 0, "yes", "no"),
        "three": np.digitize(x[:, 0], [-1, 1]) * 10, "labels": (x[:, :3] > 0).astype(int),
    }[case]  # fmt: skip
    kind = MLPRegressor if case in ("regressor", "outputs") else MLPClassifier
    estimator = fitted(kind, targets, hidden_layer_sizes=(8, 4), activation=activation)
    model = interop.from_sklearn(estimator, dtype="float64")
    expected = estimator.predict(x) if kind is MLPRegressor else estimator.predict_proba(x)
    found = model.predict(x, verbose=0)
    if case == "regressor":
        found = found[:, 0]
    elif case == "two":
        found = np.hstack([1 - found, found])
    close(found, expected, np.float64)
    close(interop.from_sklearn(estimator).predict(x, verbose=0), model.predict(x, verbose=0))  # float32
    back = interop.to_sklearn(model, classes=estimator.classes_ if case in ("two", "three") else None)
    np.testing.assert_array_equal(back.predict(x), estimator.predict(x))
    assert type(back) is kind and back.n_features_in_ == 5 and back.out_activation_ == estimator.out_activation_
    back.partial_fit(x, targets)
    assert back.n_iter_ == 1 and np.isfinite(back.predict(x).astype(float) if case != "two" else 0).all()


def test_to_scikit_learn():
    model = built((5,), layers.Dense(8), layers.Activation("relu"), layers.Dropout(0.5), layers.Dense(2, "softmax"))
    x = data((5,))
    estimator = interop.to_sklearn(model)
    close(estimator.predict_proba(x), model.predict(x, verbose=0))
    np.testing.assert_array_equal(estimator.predict(x), model.predict(x, verbose=0).argmax(1))
    alone = built((5,), layers.Dense(1, use_bias=False))  # no hidden layer
    close(interop.to_sklearn(alone).predict(x), alone.predict(x, verbose=0)[:, 0])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("last", [1, 3])
def test_to_scikit_learn_trains_on_as_if_nothing_had_been(last):
    x, state = data((5,), 60), np.random.get_state()[1].tolist()
    estimator = interop.to_sklearn(built((5,), layers.Dense(8, "tanh"), layers.Dense(last)))
    assert np.random.get_state()[1].tolist() == state and estimator.get_params()["random_state"] is None
    assert estimator.best_loss_ == np.inf
    y = 10.0 * x[:, :last].squeeze()
    estimator.set_params(warm_start=True, max_iter=40, random_state=0).fit(x, y)
    assert estimator.n_iter_ == 40 and estimator.best_loss_ == min(estimator.loss_curve_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", ["regressor", "counts", "two", "three", "labels"])
def test_estimators_of_our_own(case):
    x = data((5,), 60)
    targets = {
        "regressor": x[:, :2], "counts": np.abs(x[:, 0]).round(), "two": np.where(x[:, 0] > 0, "yes", "no"),
        "three": np.digitize(x[:, 0], [-1, 1]) * 10, "labels": (x[:, :3] > 0).astype(int),
    }[case]  # fmt: skip
    kind = ours.MLPRegressor if case in ("regressor", "counts") else ours.MLPClassifier
    settings = {"loss": "poisson"} if case == "counts" else {}
    estimator = kind(hidden_layer_sizes=(8,), max_iter=40, random_state=0, **settings).fit(x, targets)
    expected = estimator.predict(x) if kind is ours.MLPRegressor else estimator.predict_proba(x)
    expected = expected[:, 1:] if case == "two" else expected.reshape(60, -1)
    model = interop.to_onnx(estimator)
    close(run_onnx(model, x), expected.astype(np.float32))
    if case == "counts":  # whose outputs are exponentials
        with pytest.raises(ValueError, match="its outputs are linear, sigmoid, or softmax"):
            interop.to_sklearn(estimator)
    else:
        back = interop.to_sklearn(estimator).predict(x)
        if kind is ours.MLPRegressor:
            close(back, estimator.predict(x))
        else:
            np.testing.assert_array_equal(back, estimator.predict(x))
        close(interop.from_sklearn(estimator).predict(x, verbose=0), expected.astype(np.float32))
        assert interop.to_torch(estimator)["0.weight"].shape == (8, 5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_of_several_networks_or_of_none():
    x = data((5,), 60)
    with pytest.raises(ValueError, match=r"to_onnx takes a fitted estimator.*call fit first"):
        interop.to_onnx(ours.MLPRegressor())
    estimator = ours.MLPRegressor(hidden_layer_sizes=(8,), n_models=2, max_iter=2, tol=1.0, random_state=0).fit(
        x, x[:, 0]
    )
    with pytest.raises(ValueError, match=r"is the mean of 2: its ensemble_.members\[0\] to ensemble_.members\[1\]"):
        interop.from_sklearn(estimator)
    close(interop.from_sklearn(interop.to_sklearn(estimator.ensemble_.members[1])).predict(x, verbose=0),
          estimator.ensemble_.members[1].predict(x, verbose=0))  # fmt: skip


def relu(z):
    return z * z


def sigmoid(z):
    return 2.0 * z


@pytest.mark.parametrize("stack", [[layers.Dense(3, relu), layers.Dense(1)], [layers.Dense(1, sigmoid)]])
def test_to_scikit_learn_refuses_functions_that_are_called_as_its_own(stack):
    with pytest.raises(ValueError, match="cannot be brought to scikit-learn"):
        interop.to_sklearn(built((5,), *stack))


@pytest.mark.parametrize(
    ("stack", "classes", "message"),
    [
        ([layers.Dense(3, "tanh"), layers.Dense(3, "relu", name="b"), layers.Dense(1)], None, "Dense layer 'b' cannot"),
        ([layers.Dense(3, "elu"), layers.Dense(1)], None, "one activation, one of linear, sigmoid, tanh and relu"),
        ([layers.Dense(3, "relu")], None, "its outputs are linear, sigmoid, or softmax"),
        ([layers.BatchNormalization(), layers.Dense(1)], None, "a scaling of inputs goes into a pipeline"),
        ([layers.Dense(1)], [0, 1], "classes are a classifier's"),
        ([layers.Dense(3, "softmax")], ["b", "a", "c"], "classes must be 3 sorted labels"),
        ([layers.Dense(3, "sigmoid")], ["a", "b", "c"], "classes must be None"),
        ([layers.Dropout(0.1)], None, "A model without Dense layers"),
    ],
)
def test_to_scikit_learn_refuses(stack, classes, message):
    with pytest.raises(ValueError, match=message):
        interop.to_sklearn(built((5,), *stack), classes)


def test_from_scikit_learn_refuses():
    with pytest.raises(ValueError, match="takes a fitted estimator"):
        interop.from_sklearn(MLPRegressor())
    with pytest.raises(TypeError, match="takes an MLPRegressor or MLPClassifier"):
        interop.from_sklearn(losses.Huber())
