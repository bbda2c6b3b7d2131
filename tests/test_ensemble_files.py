"""What an ensemble is worth, and ensembles as files: a loaded one goes on to the bits of the one that was saved."""

import pickle

import numpy as np
import pytest
from test_ensemble import built_by_the_first_fit, compiled, data, of_each_its_own, plain, regularized, state

import gpumlp
from gpumlp import callbacks, layers, metrics, random, saving

X, Y = data(50, seed=1)


def classifier():
    stack = layers.Dense(8, "relu", kernel_regularizer="l2"), layers.Dense(3, "softmax")
    more = {"metrics": ["accuracy", metrics.TopKCategoricalAccuracy(2)], "weighted_metrics": ["accuracy"]}
    return compiled(*stack, loss="categorical_crossentropy", **more)


def rows():
    return compiled(layers.Reshape((3, 1)), layers.Dense(4), metrics=["mae"])


# ---- evaluate, predict -----------------------------------------------------------------------------------------------


def test_the_mean_is_judged_as_one_model_s_prediction(family):
    ensemble = gpumlp.Ensemble(classifier, 3)
    y, weights = np.eye(3)[np.arange(50) % 3], np.linspace(0.5, 2, 50)
    ensemble.fit(X, y, epochs=3, verbose=0)
    own, each = ensemble.evaluate(X, y, batch_size=8, sample_weight=weights, verbose=0, return_dict=True)
    assert each == [m.evaluate(X, y, 8, sample_weight=weights, verbose=0, return_dict=True) for m in ensemble.members]
    mean = ensemble.predict(X)[0].astype(np.float64)
    right = mean.argmax(-1) == y.argmax(-1)
    expected = {
        "loss": np.sum(weights * -np.log(mean[np.arange(50), y.argmax(-1)])) / 50,
        "accuracy": right.mean(), "weighted_accuracy": np.average(right, weights=weights),
    }  # fmt: skip
    assert list(own) == list(each[0])
    for name, value in expected.items():
        assert own[name] == pytest.approx(value, rel=1e-5)
    found = ensemble.evaluate(X, y, batch_size=8, sample_weight=weights, verbose=0)
    names = ["loss", "accuracy", "top_k_categorical_accuracy", "weighted_accuracy"]
    assert found == ([own[name] for name in names], [[one[name] for name in names] for one in each])


def test_of_a_loss_alone_a_number_is_returned(family):
    ensemble = gpumlp.Ensemble(plain, 2)
    own, each = ensemble.evaluate(X, Y, verbose=0)
    assert own == pytest.approx(np.mean((ensemble.predict(X)[0] - Y) ** 2), rel=1e-5)
    assert own <= np.mean(each) and all(type(value) is float for value in (own, *each))


def test_outputs_in_rows_host_s_metrics_and_steps():
    ensemble = gpumlp.Ensemble(rows, 2)
    y = np.random.default_rng(0).standard_normal((50, 3, 4))
    own, _ = ensemble.evaluate(X, y, batch_size=10, steps=2, verbose=0)
    mean = ensemble.predict(X[:20])[0]
    assert mean.shape == (20, 3, 4)
    assert own == pytest.approx([np.mean((mean - y[:20]) ** 2), np.mean(abs(mean - y[:20]))], rel=1e-5)

    def spread(y_true, y_pred):
        return np.std(y_pred)

    host = gpumlp.Ensemble(lambda: compiled(layers.Dense(2), metrics=[spread]), 2)
    own, _ = host.evaluate(X, Y, batch_size=50, verbose=0, return_dict=True)
    assert own["spread"] == pytest.approx(np.std(host.predict(X)[0]), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_the_display_shows_the_mean_prediction_s(capsys):
    ensemble = gpumlp.Ensemble(plain, 3)
    own, _ = ensemble.evaluate(X, Y, verbose=2)
    (line,) = capsys.readouterr().out.splitlines()
    assert f"loss: {own:.4f}" in line
    for x in (lambda: X, lambda: ((X[part],) for part in (slice(25), slice(25, 50)))):
        found = ensemble.predict(x(), verbose=0)
        assert not capsys.readouterr().out
        assert np.array_equal(ensemble.predict(x(), None, 2)[0], found[0])
        assert len(capsys.readouterr().out.splitlines()) == 3  # a member's each
    with pytest.raises(ValueError, match="verbose"):
        ensemble.predict(X, verbose=7)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("labelled", [False, True])
def test_batches_are_read_once_for_all(labelled):
    cut = [slice(i, i + 8) for i in range(0, 50, 8)]
    batches, read = [(X[part], Y[part]) for part in cut], []

    def stream():
        for x, y in batches:
            read.append(len(x))
            yield (x, y) if labelled else (x,)

    ensemble = gpumlp.Ensemble(plain, 3)
    mean, spread = ensemble.predict(stream())
    assert len(read) == len(batches) and mean.shape == spread.shape == (50, 2)
    each = ensemble.predict_members(stream(), steps=2)
    for found, member in zip(each, ensemble.members, strict=True):
        assert np.array_equal(found, member.predict(stream(), steps=2, verbose=0)) and len(found) == 16
    if labelled:
        read.clear()
        own, each = ensemble.evaluate(stream(), verbose=0)
        assert len(read) == len(batches)
        assert own == pytest.approx(ensemble.evaluate(X, Y, batch_size=8, verbose=0)[0], rel=1e-6)
        assert each == [member.evaluate(stream(), verbose=0) for member in ensemble.members]


def test_evaluating_changes_no_random_numbers_and_no_names():
    ensemble = gpumlp.Ensemble(built_by_the_first_fit, 2)
    gpumlp.utils.set_random_seed(3)
    before = random.current().state()
    gpumlp.backend.clear_session()
    ensemble.evaluate(X, Y, verbose=0)
    assert random.current().state() == before
    assert layers.Activation("relu").name == "activation" and compiled().name == "sequential"


def test_evaluate_says_what_is_wrong():
    ensemble = gpumlp.Ensemble(plain, 2)
    for how, match in (({"x": X[:, :2]}, "samples of shape"), ({"y": None}, "y is missing"), ({"verbose": 5}, "verb")):
        with pytest.raises(ValueError, match=match):
            ensemble.evaluate(**{"x": X, "y": Y, **how})


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [plain, regularized, of_each_its_own, built_by_the_first_fit])
def test_a_loaded_ensemble_goes_on(family, tmp_path, build):
    ensemble = gpumlp.Ensemble(build, 3, seeds=[5, 1, 2])
    stop = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    ensemble.fit(X, Y, epochs=2, bootstrap=True, callbacks=[stop], verbose=0)
    gpumlp.utils.set_random_seed(3)
    before = random.current().state()
    ensemble.save(tmp_path / "e.gpumlp")
    copies = [gpumlp.Ensemble.load(tmp_path / "e.gpumlp"), pickle.loads(pickle.dumps(ensemble))]
    assert random.current().state() == before
    for copy in copies:
        assert copy.seeds == [5, 1, 2] and copy.callbacks == []
        assert [state(m) for m in copy.members] == [state(m) for m in ensemble.members]
        assert all(np.array_equal(a, b) for a, b in zip(copy.samples, ensemble.samples, strict=True))
    for each in (ensemble, *copies):
        each.fit(X, Y, epochs=2, bootstrap=True, initial_epoch=1, validation_split=0.2, verbose=0)
    for copy in copies:
        assert [state(m) for m in copy.members] == [state(m) for m in ensemble.members]
    assert np.array_equal(copies[0].predict(X)[1], ensemble.predict(X)[1])


def test_one_that_is_not_built_and_one_of_own_functions(tmp_path):
    def bent(y_true, y_pred):
        return gpumlp.ops.mean(gpumlp.ops.square(y_true - y_pred) ** 0.7, -1)

    ensemble = gpumlp.Ensemble(lambda: compiled(layers.Dense(2), built=False, loss=bent), 2)
    ensemble.save(tmp_path / "e.gpumlp")
    with pytest.raises((TypeError, ValueError), match="bent"):
        gpumlp.Ensemble.load(tmp_path / "e.gpumlp")
    loaded = gpumlp.Ensemble.load(tmp_path / "e.gpumlp", custom_objects={"bent": bent})
    for each in (ensemble, loaded):
        each.fit(X, Y, epochs=2, verbose=0)
    assert [state(m) for m in loaded.members] == [state(m) for m in ensemble.members]


def test_what_is_in_a_file_is_said(tmp_path):
    ensemble, path = gpumlp.Ensemble(plain, 2), tmp_path / "e.gpumlp"
    ensemble.save(path)
    with pytest.raises(ValueError, match=r"has an ensemble: gpumlp\.Ensemble\.load reads it"):
        saving.load_model(path)
    with pytest.raises(ValueError, match=r"has an ensemble: gpumlp\.Ensemble\.load reads it"):
        ensemble.members[0].load_weights(path)
    ensemble.members[0].save(tmp_path / "m.gpumlp")
    with pytest.raises(ValueError, match=r"has no ensemble, but 'gpumlp\.model': models\.load_model reads a model"):
        gpumlp.Ensemble.load(tmp_path / "m.gpumlp")
    with pytest.raises(ValueError, match=r"ends in '\.gpumlp'"):
        ensemble.save(tmp_path / "e.keras")
    with pytest.raises(FileExistsError, match="overwrite=False"):
        ensemble.save(path, overwrite=False)
    ensemble.save(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.gpumlp", "m.gpumlp"]


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("members", [], "must have members"),
        ("members", 7, "must have members"),
        ("seeds", [1], "as many seeds"),
        ("seeds", [1, "a"], "as many seeds"),
        ("members", [{}, {}], "Member 0 in .* has no model"),
        ("members", [7, 7], "Member 0 in"),
        ("samples", [1, 2, 3], "as many samples"),
        ("samples", 5, "as many samples"),
    ],
)
def test_what_is_no_ensemble_is_refused(tmp_path, name, value, match):
    path = tmp_path / "e.gpumlp"
    gpumlp.Ensemble(plain, 2).save(path)
    saving.write_state(path, {**saving.read_state(path), name: value})
    with pytest.raises(ValueError, match=match):
        gpumlp.Ensemble.load(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "e.gpumlp"
    gpumlp.Ensemble(plain, 2).save(path)
    found = bytearray(path.read_bytes())
    found[-5] ^= 1
    path.write_bytes(found)
    with pytest.raises(ValueError, match="damaged"):
        gpumlp.Ensemble.load(path)
