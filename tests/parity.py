"""Hold gpumlp against Keras on JAX: same weights, same batches, so the losses and weights must agree.

Run by ``make parity`` in an environment of its own. Both sides compute in float32 but sum in different orders, so
they differ by rounding, which training amplifies. Over the 20 to 60 steps here the largest difference seen is 4e-6
relative (70 units of rounding); the tolerance leaves a factor of five for another BLAS's order of summation. It is
tight enough that Adam's epsilon at 1e-6 instead of 1e-7 fails in 29 of the 37 comparisons.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_ENABLE_X64"] = "1"

import keras
import keras_names
import numpy as np
import parity_files
import parity_signatures

import gpumlp
from gpumlp import layers, losses, models, optimizers

RTOL, ATOL = 2e-5, 2e-6
EXACT = 1e-9, 1e-11  # of weights in float64; losses, and tanh, Keras on JAX has in float32 in any case
IN_FLOAT32 = "Adafactor", "Muon"  # as are means, and square roots of whole numbers

OPTIMIZERS = {  # by name; all of them, and what all of them have
    **{kind.__name__: lambda o, name=kind.__name__: getattr(o, name)(0.01) for kind in optimizers.KNOWN.values()},
    "Adam amsgrad": lambda o: o.Adam(0.01, amsgrad=True),
    "Adagrad from 1": lambda o: o.Adagrad(0.1, initial_accumulator_value=1.0),
    "Ftrl, l1, l2, shrinkage, beta": lambda o: o.Ftrl(0.1, -0.7, 0.1, 0.01, 0.02, 0.03, 0.04),
    "Adafactor, large": lambda o: o.Adafactor(0.5, clip_threshold=0.5, epsilon_2=0.1),
    "Muon, a layer of Adam's": lambda o: o.Muon(0.01, exclude_layers=["last"], nesterov=False),
    "Lamb, all decay": lambda o: o.Lamb(0.01, weight_decay=0.1),
    "Nadam clipnorm": lambda o: o.Nadam(0.01, clipnorm=0.05),
    "SGD clipvalue": lambda o: o.SGD(0.1, clipvalue=0.01),
    "RMSprop global_clipnorm": lambda o: o.RMSprop(0.01, global_clipnorm=0.05),
    "Adam, averages": lambda o: o.Adam(0.01, use_ema=True, ema_momentum=0.9),
    "SGD, averages every 3": lambda o: o.SGD(0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3),
    "Adam, gathering 3": lambda o: o.Adam(0.01, gradient_accumulation_steps=3, weight_decay=0.1),
    "Lion, gathering 2, averages": lambda o: o.Lion(0.01, gradient_accumulation_steps=2, use_ema=True, clipnorm=0.1),
    "Muon, global_clipnorm": lambda o: o.Muon(0.01, global_clipnorm=0.1, gradient_accumulation_steps=2),
    "Adam, loss_scale_factor": lambda o: o.Adam(0.01, loss_scale_factor=8.0),
}


def pair(hidden, outputs, last, activation="tanh", regularizer=None, constraint=None, inputs=3):
    """Return a Keras model and gpumlp's, with the same weights, of the type that Keras is set to."""
    theirs = keras.Sequential([keras.Input((inputs,))])
    ours = models.Sequential([layers.Input((inputs,))], dtype=keras.config.floatx())
    how = {"activation": activation, "kernel_regularizer": regularizer, "kernel_constraint": constraint}
    for units in hidden:
        theirs.add(keras.layers.Dense(units, **how, bias_constraint=constraint and "non_neg"))
        ours.add(layers.Dense(units, **how, bias_constraint=constraint and "non_neg"))
    theirs.add(keras.layers.Dense(outputs, activation=last, name="last"))
    ours.add(layers.Dense(outputs, activation=last, name="last"))
    ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
    return theirs, ours


STACKS = {  # of samples of three numbers, by a library's layers
    "PReLU": lambda k: [k.Dense(6), k.PReLU("ones", "l1", "non_neg"), k.Dense(2)],
    "PReLU, shared": lambda k: [k.Dense(6), k.Reshape((2, 3)), k.PReLU(shared_axes=1), k.Flatten(), k.Dense(2)],
    "Dense on two axes": lambda k: [
        k.Dense(12), k.Reshape((4, -1)), k.Dense(5, "gelu", kernel_regularizer="l2"), k.Permute((2, 1)),
        k.Dense(2, "softmax"), k.Flatten(), k.Dense(2),
    ],
    "Softmax over axes": lambda k: [
        k.Dense(24), k.Reshape((2, 3, 4)), k.Softmax(1), k.Dense(2), k.Softmax((1, 3)), k.Flatten(), k.Dense(2),
    ],
    "RepeatVector, Rescaling by vectors": lambda k: [
        k.Rescaling([0.5, 2.0, 1.0], [0.0, 1.0, -1.0]), k.RepeatVector(2), k.Dense(4, "tanh"), k.Identity(),
        k.Rescaling(np.array([[0.5], [2.0]])), k.Flatten(), k.Dense(2),
    ],
    "activities": lambda k: [
        k.Dense(6, "tanh", activity_regularizer="l1"), k.ActivityRegularization(0.1, 0.2),
        k.Activation("silu", activity_regularizer="l2"), k.Dense(2, activity_regularizer="orthogonal_regularizer"),
    ],
    "Lambda, ReLU, LeakyReLU, ELU": lambda k: [
        k.Dense(6), k.Lambda(lambda x: x * 0.5), k.ReLU(2.0, 0.1, 0.3), k.Dense(6), k.LeakyReLU(0.2), k.Dense(6),
        k.ELU(0.7), k.Dropout(0.0), k.Dense(2),
    ],
}  # fmt: skip


NORMALIZING = {
    "BatchNormalization": lambda of: [of.Dense(16, use_bias=False), of.BatchNormalization(), of.Activation("relu")],
    "BatchNormalization, momentum": lambda of: [of.BatchNormalization(momentum=0.5, epsilon=0.1, center=False)],
    "BatchNormalization, frozen": lambda of: [of.Dense(16), of.BatchNormalization(trainable=False)],
    "LayerNormalization": lambda of: [of.Dense(16, "relu"), of.LayerNormalization()],
    "UnitNormalization": lambda of: [of.Dense(16), of.UnitNormalization()],
    "Normalization": lambda of: [of.Normalization(mean=[0.1, 0.2, 0.3], variance=[2.0, 1.0, 0.5]), of.Dense(16)],
    "Normalization, adapted": lambda of: [adapted(of.Normalization()), of.Dense(16, "tanh"), of.BatchNormalization()],
}


def adapted(layer):
    layer.adapt(np.linspace(-3, 5, 24).reshape(8, 3) ** 2)
    return layer


def stacks(make):
    """Return a Keras model and gpumlp's of the layers that ``make`` gives of a library's, with the same weights."""
    theirs = keras.Sequential([keras.Input((3,)), *make(keras.layers)])
    ours = models.Sequential([layers.Input((3,)), *make(layers)])
    ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
    return theirs, ours


def difference(a, b, rtol=RTOL, atol=ATOL):
    """Return the largest error in units of its tolerance."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return float("inf")
    worst = np.max(np.abs(a - b) / (atol + rtol * np.abs(a)), initial=0.0)
    return float(worst) if np.isfinite(worst) else float("inf")


def compare(name, theirs, ours, optimizer, loss, x, y, exact=False, **fit):
    """Train both and print the largest error; return whether it passes. ``exact``: both are of float64."""
    make, make_loss = optimizer, loss
    metrics = fit.pop("metrics", [])
    theirs.compile(optimizer=make(keras.optimizers), loss=make_loss(keras.losses), metrics=metrics)
    ours.compile(optimizer=make(optimizers), loss=make_loss(losses), metrics=metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # both warn when the data runs out
        a = theirs.fit(x, y, shuffle=False, verbose=0, **fit).history
        b = ours.fit(x, y, shuffle=False, verbose=0, **fit).history
    bound = EXACT if exact else (RTOL, ATOL)
    worst = {k: difference(a[k], b.get(k, [])) for k in a}
    for i, (u, v) in enumerate(zip(theirs.get_weights(), ours.get_weights(), strict=True)):
        worst[f"weight {i}"] = difference(u, v, *bound)
    key = max(worst, key=lambda k: worst[k])
    good = worst[key] <= 1 and set(a) == set(b)
    print(f"{'PASS' if good else 'FAIL'}  {worst[key]:8.3f} of the tolerance at {key:<10} {name}", flush=True)
    return good


def article():
    """Train the article's network for 30 steps in float64; return whether both predict the same to 1e-9.

    Largest differences over three seeds: 1.3e-10 of predictions, 5e-9 of weights (where a gradient is next to nothing,
    Adam's quotient makes much of its rounding). In float32 it is 1e-3: Keras's correction of Adam's bias is in single
    precision, and seven layers amplify it.
    """
    points = np.arange(0, 20, 0.1)[:, None]
    theirs, ours = pair([256] * 7, 1, None, "relu", inputs=1)
    for model, optimizer in ((theirs, keras.optimizers.Adam()), (ours, optimizers.Adam())):
        model.compile(optimizer=optimizer, loss="mse")
        model.fit(points, np.sin(points), shuffle=False, verbose=0, steps_per_epoch=10, epochs=3)
    worst = difference(theirs.predict(points, verbose=0), ours.predict(points, verbose=0), 0.0, 1e-9)
    print(
        f"{'PASS' if worst <= 1 else 'FAIL'}  {worst:8.3f} of the tolerance: float64, the article's network", flush=True
    )
    return worst <= 1


# Losses of a whole batch, by either's operations.
OF_BATCH = {
    "root": lambda o: lambda t, p: o.sqrt(o.mean(o.square(t - p))),
    "correlation": lambda o: lambda t, p: -o.mean((t - o.mean(t)) * (p - o.mean(p))) / o.std(t) / o.std(p),
    "sum": lambda o: lambda t, p: o.sum(o.square(t - p)) / o.sum(o.square(t - o.mean(t))),
}

SHAPES = ((), (1,), (3,), (3, 1), (1, 3), (3, 3), (2, 3), (2, 3, 1), (2, 3, 4), (0, 3))
LOSSES = (
    ("MeanSquaredError", {}), ("MeanAbsoluteError", {}), ("Huber", {"delta": 0.2}), ("BinaryCrossentropy", {}),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.2}), ("CategoricalCrossentropy", {}),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}), ("SparseCategoricalCrossentropy", {}),
    ("MeanAbsolutePercentageError", {}), ("MeanSquaredLogarithmicError", {}), ("LogCosh", {}), ("Hinge", {}),
)  # fmt: skip


def outcome(call):
    """Return what a call gives as an array, or the error."""
    try:
        return np.asarray(call())
    except (ValueError, TypeError, IndexError) as error:
        return error


def compare_on_arrays(name, constants, rng):
    """Call a loss on arrays of all pairs of shapes; return whether gpumlp gives Keras's numbers, or words."""
    wrong = []
    for reduction, true, pred, weights in itertools.product(
        ("sum_over_batch_size", "sum", None), SHAPES, SHAPES, (None, (), (1,), (3,), (2, 3), (3, 1))
    ):
        y = np.zeros(true, "i4") if "Sparse" in name else rng.uniform(0.1, 0.9, true).astype("f4")
        given = (y, rng.uniform(0.1, 0.9, pred).astype("f4"), None if weights is None else rng.uniform(size=weights))
        a, b = (
            outcome(lambda m=m, r=reduction, g=given: getattr(m, name)(**constants, reduction=r)(*g))
            for m in (keras.losses, losses)
        )
        same = (
            difference(a, b) <= 1
            if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
            else isinstance(b, ValueError)
        )
        if not same or (isinstance(a, np.ndarray) and isinstance(b, Exception)):
            wrong.append((reduction, true, pred, weights, str(b)))
    print(
        f"{'FAIL' if wrong else 'PASS'}  {name} {constants or ''} on arrays of every shape {wrong[:3] or ''}",
        flush=True,
    )
    return not wrong


def main() -> int:
    """Run every comparison; return 1 if one failed."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    n = 50
    x = rng.normal(size=(n, 3)).astype("f4")
    y = np.sin(x @ rng.normal(size=(3, 2))).astype("f4")
    classes = rng.integers(0, 4, n)
    one_hot = np.eye(4, dtype="f4")[classes]
    binary = rng.integers(0, 2, n).astype("f4")
    weights = rng.uniform(0.2, 3, n).astype("f4")
    adam, mse = lambda o: o.Adam(), lambda _: "mse"
    results = [compare_on_arrays(name, constants, rng) for name, constants in LOSSES]

    def run(name, network, optimizer, loss, target, **fit):
        fit = {"epochs": 5, "batch_size": 16} | fit
        results.append(compare(name, *pair(*network), optimizer, loss, x, target, **fit))

    for depth in (0, 1, 3, 7):
        run(f"{depth} hidden layers", ([16] * depth, 2, None), adam, mse, y)
    for activation in (
        "relu", "leaky_relu", "sigmoid", "gelu", "silu", "elu", "softmax", "linear", "relu6", "selu", "celu", "mish",
        "hard_sigmoid", "hard_silu", "hard_tanh", "tanh_shrink", "soft_shrink", "softplus", "softsign", "squareplus",
        "sparse_plus", "sparse_sigmoid", "log_sigmoid", "exponential", "log_softmax",
    ):  # fmt: skip
        run(f"activation {activation}", ([16, 16], 2, None, activation), adam, mse, y)
    for name, make in {
        "SGD": lambda o: o.SGD(0.05),
        "SGD momentum": lambda o: o.SGD(0.05, momentum=0.9),
        "SGD nesterov": lambda o: o.SGD(0.05, momentum=0.9, nesterov=True),
        "AdamW": lambda o: o.AdamW(),
        "Adam eps": lambda o: o.Adam(0.01, 0.8, 0.9, 1e-3),
        "Adam decay": lambda o: o.Adam(weight_decay=0.01),
        "SGD, a schedule": lambda o: o.SGD(o.schedules.ExponentialDecay(0.05, 3, 0.8)),
        "Adam, a schedule in steps": lambda o: o.Adam(o.schedules.ExponentialDecay(0.01, 4, 0.5, staircase=True)),
        "SGD, a cosine after a warmup": lambda o: o.SGD(o.schedules.CosineDecay(0.01, 12, 0.1, "", 0.05, 5)),
        "SGD, cosines with restarts": lambda o: o.SGD(o.schedules.CosineDecayRestarts(0.05, 4, 1.5, 0.8)),
        "Adam, a polynomial": lambda o: o.Adam(o.schedules.PolynomialDecay(0.01, 8, 0.001, 2.0, True)),
        "Adam, pieces": lambda o: o.Adam(o.schedules.PiecewiseConstantDecay([5, 9], [0.01, 0.005, 0.001])),
        "Adam, inverse time": lambda o: o.Adam(o.schedules.InverseTimeDecay(0.01, 4, 0.5)),
        "RMSprop": lambda o: o.RMSprop(),
        "RMSprop centred, momentum": lambda o: o.RMSprop(momentum=0.5, centered=True),
    }.items():
        run(f"optimizer {name}", ([16], 2, None), make, mse, y)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    for name, make in OPTIMIZERS.items():
        inputs = x.astype("f8"), y.astype("f8")
        fit = {"exact": not name.startswith(IN_FLOAT32), "epochs": 5, "batch_size": 16}
        results.append(compare(f"float64, {name}", *pair([16], 2, None, "relu"), make, mse, *inputs, **fit))
    results.append(article())
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    for name, make, last, target in (
        ("mae", lambda _: "mae", None, y),
        ("huber", lambda s: s.Huber(delta=0.3), None, y),
        ("binary", lambda _: "binary_crossentropy", "sigmoid", binary),
        ("binary, logits", lambda s: s.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), None, binary),
        ("categorical", lambda _: "categorical_crossentropy", "softmax", one_hot),
        ("categorical, logits", lambda s: s.CategoricalCrossentropy(True, 0.1), None, one_hot),
        ("sparse", lambda _: "sparse_categorical_crossentropy", "softmax", classes),
        ("sparse, logits", lambda s: s.SparseCategoricalCrossentropy(from_logits=True), None, classes),
        ("mape", lambda _: "mape", None, y), ("msle", lambda _: "msle", "sigmoid", np.abs(y)),
        ("log_cosh", lambda _: "log_cosh", None, y), ("cosine_similarity", lambda _: "cosine_similarity", None, y),
        ("poisson", lambda _: "poisson", "softplus", np.round(2 + y)), ("hinge", lambda _: "hinge", None, binary),
        ("squared_hinge", lambda _: "squared_hinge", None, binary),
        ("categorical_hinge", lambda _: "categorical_hinge", None, one_hot),
        ("kl_divergence", lambda _: "kl_divergence", "softmax", one_hot),
        ("binary focal", lambda s: s.BinaryFocalCrossentropy(True, gamma=1.5), "sigmoid", binary),
        ("binary focal, logits", lambda s: s.BinaryFocalCrossentropy(from_logits=True), None, binary),
        ("categorical focal", lambda s: s.CategoricalFocalCrossentropy(), "softmax", one_hot),
        ("dice", lambda s: s.Dice(axis=-1), "sigmoid", one_hot),
    ):  # fmt: skip
        outputs = 1 if target is binary else target.shape[1] if target.ndim == 2 else 4
        metrics = ["mae", "mse"] if target is y else ["accuracy"]
        if "logits" in name and target is binary:
            metrics = []
        run(f"loss {name}", ([16], outputs, last), adam, make, target, metrics=metrics)
    net = ([16, 16], 2, None)
    run("steps_per_epoch 7", net, adam, mse, y, batch_size=None, steps_per_epoch=7)
    run("steps_per_epoch 30 runs out", net, adam, mse, y, batch_size=None, steps_per_epoch=30)
    run("steps and batch size", net, adam, mse, y, steps_per_epoch=3)
    run("validation split", net, adam, mse, y, validation_split=0.33, metrics=["mae"])
    run("validation data", net, adam, mse, y, validation_data=(x[:9], y[:9], weights[:9]), validation_freq=2)
    run("sample weights", net, adam, mse, y, sample_weight=weights, metrics=["mae"])
    for name, make in OF_BATCH.items():
        of = {keras.losses: make(keras.ops), losses: make(gpumlp.ops)}
        run(f"a batch's {name}", net, adam, of.__getitem__, y, sample_weight=weights, validation_split=0.3)
    for reduction in ("sum", "mean_with_sample_weight"):

        def reduced(s, how=reduction):
            return s.Huber(0.3, reduction=how)

        run(f"reduction {reduction}", net, adam, reduced, y, sample_weight=weights, validation_split=0.3)
    run("class weights", ([16], 4, "softmax"), adam, lambda _: "sparse_categorical_crossentropy", classes,
        class_weight={0: 1.0, 1: 2.5, 2: 0.5, 3: 1.0}, metrics=["accuracy"])  # fmt: skip
    run("l2", ([16, 16], 2, None, "tanh", "l2"), adam, mse, y)
    run("l1", ([16, 16], 2, None, "tanh", "l1"), adam, mse, y)
    for name, make in STACKS.items():
        more = {"validation_split": 0.3, "epochs": 5, "batch_size": 16}
        results.append(compare(f"layers: {name}", *stacks(make), adam, mse, x, y, **more))
    for loss in ("categorical_crossentropy", "kl_divergence", "mse"):
        rows = stacks(lambda k: [k.Dense(12), k.Reshape((4, 3)), k.Softmax()])
        target = np.eye(3, dtype="f4")[rng.integers(0, 3, (n, 4))]
        more = {"metrics": ["accuracy", "mae"], "epochs": 5, "batch_size": 16}
        results.append(compare(f"rows of outputs: {loss}", *rows, adam, lambda _, loss=loss: loss, x, target, **more))
    run("orthogonal", ([16, 16], 2, None, "tanh", "orthogonal_regularizer"), adam, mse, y)
    for name, make in NORMALIZING.items():
        fit = {"epochs": 5, "batch_size": 16, "sample_weight": weights, "validation_data": (x[:9], y[:9])}
        results.append(compare(name, *stacks(lambda k, make=make: [*make(k), k.Dense(2)]), adam, mse, x, y, **fit))
    for constraint in ("max_norm", "unit_norm", "min_max_norm", "non_neg"):
        run(f"constraint {constraint}", ([16, 16], 2, None, "tanh", None, constraint), adam, mse, y)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed: gpumlp {gpumlp.__version__} against "
          f"Keras {keras.__version__} on JAX, rtol {RTOL}, atol {ATOL}")  # fmt: skip
    return max(
        0 if all(results) else 1, parity_signatures.main(), parity_files.main(), keras_names.check()
    )  # which breaks Keras


if __name__ == "__main__":
    sys.exit(main())
