"""Ensembles with validation and callbacks: every member is, bit for bit, the model that is trained alone with them."""

import threading

import numpy as np
import pytest
from test_ensemble import alone, compiled, data, plain, state

import gpumlp
from gpumlp import callbacks, layers, optimizers, random
from gpumlp.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)


class Counts(Callback):
    """Counts what it sees, and draws."""

    def __init__(self):
        self.seen, self.drawn = [], []

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append((epoch, dict(logs), self.model.optimizer.iterations))
        self.drawn.append(random.generator().random())

    def on_test_end(self, logs=None):
        self.seen.append(dict(logs))

    def on_train_end(self, logs=None):
        self.seen.append(("end", dict(logs), [w.tobytes() for w in self.model.get_weights()]))


class Steps(Callback):
    """Sees every step."""

    def __init__(self, last=None):
        self.last, self.seen = last, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, logs["loss"], self.model.optimizer.iterations))
        if self.model.optimizer.iterations == self.last:
            self.model.stop_training = True


def build(k=0):
    stack = layers.Dense(9, "tanh"), layers.Dropout(0.2), layers.Dense(2)
    return compiled(*stack, optimizer=optimizers.Adam(0.03), metrics=["mae"])


def classifier():
    return compiled(layers.Dense(9, "tanh"), layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy")


X, Y = data(40, seed=1)
FITS = {
    "data": {"validation_data": data(23, seed=2), "validation_batch_size": 7},
    "a split, in some epochs": {"validation_split": 0.3, "validation_freq": 2},
    "epochs by number": {"validation_data": (*data(9, seed=2), np.linspace(1, 2, 9)), "validation_freq": [1, 4]},
    "an end on the way": {"validation_data": data(23, seed=2), "validation_steps": 2, "validation_batch_size": 5},
    "from another epoch": {"validation_split": 0.2, "initial_epoch": 3},
    "no epoch": {"validation_split": 0.2, "initial_epoch": 9},
    "bootstrap": {"validation_split": 0.2, "bootstrap": True},
}


def attributes(callback):
    """Return what a callback has come to, but for whose it is."""
    own = {name: value for name, value in vars(callback).items() if not name.startswith("_model")}
    arrays = own.pop("best_weights", None) or []
    return {name: repr(value) for name, value in own.items()}, [array.tobytes() for array in arrays]


def same(ensemble, make, given, **how):
    """Assert that members, and their callbacks, are what a model alone comes to."""
    for k, (seed, member) in enumerate(zip(ensemble.seeds, ensemble.members, strict=True)):
        own = make(k)
        model = by_itself(k, seed, own, given, how)
        assert state(member) == state(model)
        assert member.get_metrics_result() == model.get_metrics_result()
        assert [attributes(c) for c in ensemble.callbacks[k][:-1]] == [attributes(c) for c in own]


def by_itself(k, seed, own, given, how):
    how, (x, y) = dict(how), given
    gpumlp.utils.set_random_seed(seed)
    model = build(k)
    if how.pop("bootstrap", False):
        cut = int(len(x) * (1 - how.pop("validation_split")))
        rows = random.generator().integers(cut, size=cut)
        how["validation_data"], x, y = (x[cut:], y[cut:]), x[rows], y[rows]
    model.fit(x, y, callbacks=own, verbose=0, **how)
    return model


def less(epoch, rate):
    return rate * 0.9


def watched(k=0):
    """Callbacks by which members stop at different epochs, with rates of their own."""
    return [
        Counts(), EarlyStopping(min_delta=0.02, patience=1, restore_best_weights=True),
        ReduceLROnPlateau(min_delta=0.1, patience=1, factor=0.5), LearningRateScheduler(less),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:(EarlyStopping|ReduceLROnPlateau) watches", "ignore:The data ran out")
@pytest.mark.parametrize("fit", FITS)
def test_validation_and_callbacks_are_those_of_models_alone(family, fit):
    how = {"batch_size": 8, "epochs": 7, **FITS[fit]}
    ensemble = gpumlp.Ensemble(build, 3, seeds=[7, 0, 3])
    histories = ensemble.fit(X, Y, callbacks=watched(), verbose=0, **how)
    same(ensemble, watched, (X, Y), **how)
    assert histories == [member.history for member in ensemble.members] == [own[-1] for own in ensemble.callbacks]


def test_members_stop_at_different_epochs_and_the_others_go_on(family):
    def make(k):
        least = [0.0, 10.0, 0.05, 0.2][k]
        return [Counts(), EarlyStopping("loss", min_delta=least, patience=[9, 1, 1, 2][k], restore_best_weights=True)]

    ensemble = gpumlp.Ensemble(build, 4)
    ensemble.fit(X, Y, callbacks=make, epochs=6, batch_size=8, verbose=0)
    same(ensemble, make, (X, Y), epochs=6, batch_size=8)
    done = [len(member.history.epoch) for member in ensemble.members]
    assert done[0] == 6 and done[1] == 2 and len(set(done)) > 2


def test_a_member_that_stops_takes_no_more_steps(family):
    last = [13, None, 2, 7]  # 5 steps an epoch
    ensemble = gpumlp.Ensemble(build, 4)
    ensemble.fit(X, Y, callbacks=lambda k: [Steps(last[k])], epochs=3, batch_size=8, verbose=0, validation_split=0.0)
    same(ensemble, lambda k: [Steps(last[k])], (X, Y), epochs=3, batch_size=8)
    assert [member.optimizer.iterations for member in ensemble.members] == [13, 15, 2, 7]
    assert [member.history.epoch for member in ensemble.members] == [[0, 1, 2], [0, 1, 2], [0], [0, 1]]


def test_all_stop_and_training_ends(family):
    ensemble = gpumlp.Ensemble(build, 2)
    ensemble.fit(X, Y, callbacks=[Counts(), Steps(7)], epochs=10**9, batch_size=8, verbose=0)
    assert [member.optimizer.iterations for member in ensemble.members] == [7, 7]
    assert [own[0].seen[-1][0] for own in ensemble.callbacks] == ["end", "end"]
    ensemble.fit(X, Y, epochs=2, batch_size=8, verbose=0)  # who has stopped goes on with the next fit
    assert [member.optimizer.iterations for member in ensemble.members] == [17, 17]


def test_averages_become_the_weights_of_a_member_when_it_ends(family):
    def averaging(k=0):
        return plain(optimizer=optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8))

    ensemble = gpumlp.Ensemble(averaging, 3)
    ensemble.fit(X, Y, callbacks=lambda k: [Steps(4 * k + 3)], epochs=3, batch_size=8, verbose=0)
    for k, member in enumerate(ensemble.members):
        fit = {"callbacks": [Steps(4 * k + 3)], "epochs": 3, "batch_size": 8}
        assert state(member) == state(alone(averaging, k, k, fit, given=(X, Y)))


def test_class_weights(family):
    y = np.arange(40) % 3
    how = {"class_weight": {0: 0.5, 2: 3.0}, "batch_size": 7, "epochs": 2}
    ensemble = gpumlp.Ensemble(classifier, 2)
    ensemble.fit(X, y, verbose=0, **how)
    assert [state(m) for m in ensemble.members] == [state(alone(classifier, k, k, how, given=(X, y))) for k in (0, 1)]


@pytest.mark.parametrize("kind", ["blocks", "a PyDataset"])
def test_the_order_of_what_is_read_comes_from_the_first_member(kind):
    class Numbered(gpumlp.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return X[6 * index : 6 * index + 6], Y[6 * index : 6 * index + 6]

    def batches():
        return gpumlp.utils.Blocks(X, Y, block_size=7) if kind == "blocks" else Numbered()

    before = gpumlp.random.current().state()
    ensemble = gpumlp.Ensemble(build, 2)
    ensemble.fit(batches(), epochs=3, verbose=0)
    assert gpumlp.random.current().state() == before  # as if there were no members
    gpumlp.utils.set_random_seed(0)
    alone = build()
    alone.fit(batches(), epochs=3, verbose=0)
    assert state(ensemble.members[0]) == state(alone)


@pytest.mark.parametrize("kind", ["a list of batches", "a generator", "a PyDataset"])
def test_batches_to_validate_on_are_read_once_for_all(kind):
    batches = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 40, 6)]
    read = []

    class Numbered(gpumlp.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, i):
            read.append(i)
            return batches[i]

    class Loader:
        def __len__(self):
            return len(batches)

        def __iter__(self):
            return stream(batches)

    def stream(given):
        for i, batch in enumerate(given):
            read.append(i)
            yield batch

    def held_out():
        if kind == "a generator":
            return {"validation_data": stream(batches * 4), "validation_steps": 5}
        return {"validation_data": Loader() if kind == "a list of batches" else Numbered()}

    def make(k):  # one looks at each batch, one ends an evaluation on the way
        stop = LambdaCallback(on_test_batch_end=lambda batch, logs: k == 1 and stopping.append(batch))
        return [Counts(), *([stop] if k == 1 else []), *([Stop()] if k == 2 else [])]

    stopping = []
    ensemble = gpumlp.Ensemble(build, 4)
    ensemble.fit(X, Y, epochs=3, verbose=0, callbacks=make, **held_out())
    found = [state(member) for member in ensemble.members]
    once = len(read)
    assert len(stopping) == 3 * (5 if kind == "a generator" else 7)
    for k in range(4):
        read.clear()
        own = make(k)
        gpumlp.utils.set_random_seed(k)
        model = build()
        model.fit(X, Y, epochs=3, verbose=0, callbacks=own, **held_out())
        assert found[k] == state(model)
        assert ensemble.callbacks[k][0].seen == own[0].seen
        assert k == 2 or len(read) == once


class Stop(Callback):
    """Ends an evaluation behind its second batch."""

    def on_test_batch_end(self, batch, logs=None):
        self.model.stop_evaluating = batch == 1


# ---- whose callbacks -------------------------------------------------------------------------------------------------


def test_callbacks_are_copied_for_each_member():
    given = Counts()
    ensemble = gpumlp.Ensemble(build, 2)
    given.set_model(ensemble.members[0])  # as after a fit of its own; a copy has the model, and copies none
    ensemble.fit(X, Y, callbacks=[given, [History()]], verbose=0)
    assert given.seen == [] and given.model is ensemble.members[0]
    for member, own in zip(ensemble.members, ensemble.callbacks, strict=True):
        assert [type(each) for each in own] == [Counts, History] and own[0].model is own[1].model is member
        assert own[1] is member.history and own[0].seen
    ensemble.fit(X, Y, callbacks=given, verbose=0)
    ensemble.fit(X, Y, callbacks=callbacks.CallbackList([given]), verbose=0)
    assert len(ensemble.callbacks[1][0].drawn) == 1


def test_what_cannot_be_copied_comes_from_a_function():
    class Locked(Callback):
        def __init__(self):
            self.lock = threading.Lock()

    ensemble = gpumlp.Ensemble(build, 2)
    with pytest.raises(TypeError, match=r"cannot be copied .*lock.*callbacks=lambda k"):
        ensemble.fit(X, Y, callbacks=Locked(), verbose=0)
    one = Counts()
    with pytest.raises(ValueError, match="Models share one Counts: the function must make a new one"):
        ensemble.fit(X, Y, callbacks=lambda k: [one], verbose=0)
    with pytest.raises(TypeError, match="Callback objects; got 7"):
        ensemble.fit(X, Y, callbacks=lambda k: [7], verbose=0)
    assert all(not member.optimizer.iterations and member.history is None for member in ensemble.members)
    ensemble.fit(X, Y, callbacks=lambda k: Locked(), verbose=0)
    assert ensemble.members[1].optimizer.iterations == 2


def test_files_are_each_member_s_own(tmp_path):
    ensemble = gpumlp.Ensemble(build, 2)
    for callback in (ModelCheckpoint(tmp_path / "m.gpumlp"), CSVLogger(tmp_path / "log.csv")):
        name = type(callback).__name__
        with pytest.raises(ValueError, match=rf"{name} of members 0 and 1 would write to .*'{{member}}'"):
            ensemble.fit(X, Y, callbacks=[callback], verbose=0)
    with pytest.raises(ValueError, match="would write to"):
        ensemble.fit(X, Y, callbacks=lambda k: CSVLogger(tmp_path / "log.csv"), verbose=0)
    given = [ModelCheckpoint(tmp_path / "{member:02d}-{epoch}-{loss:.1f}.gpumlp"), CSVLogger(tmp_path / "{member}.csv")]
    ensemble.fit(X, Y, callbacks=given, epochs=2, verbose=0)
    assert "{member:02d}" in given[0].filepath
    found = sorted(path.name[:5] for path in tmp_path.iterdir())
    assert found == ["0.csv", "00-1-", "00-2-", "01-1-", "01-2-", "1.csv"]
    (last,) = tmp_path.glob("01-2-*")
    model, member = gpumlp.models.load_model(last), ensemble.members[1]
    assert state(model)[0] == state(member)[0]
    row = (tmp_path / "1.csv").read_text().splitlines()[2].split(",")
    assert float(row[1]) == member.history.history["loss"][1]
    single = gpumlp.Ensemble(build, 1)
    single.fit(X, Y, callbacks=[ModelCheckpoint(tmp_path / "one.gpumlp")], verbose=0)
    assert (tmp_path / "one.gpumlp").exists()


def test_backups_are_of_one_model(tmp_path):
    ensemble = gpumlp.Ensemble(build, 2)
    with pytest.raises(ValueError, match=r"BackupAndRestore is of one model.*ensemble\.save"):
        ensemble.fit(X, Y, callbacks=[BackupAndRestore(tmp_path / "{member}")], verbose=0)
    assert not list(tmp_path.iterdir()) and ensemble.callbacks == []


# ---- ends, and the display -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("validated", [False, True])
def test_an_exception_of_a_callback_ends_all_behind_whole_steps(family, error, validated):
    def fail(epoch, logs):
        if epoch == 1:
            raise error("enough")

    def make(k):
        return [LambdaCallback(on_epoch_end=fail)] if k == 1 else [Counts()]

    held_out = {"validation_data": data(9, seed=2)} if validated else {}
    ensemble = gpumlp.Ensemble(build, 3)
    with pytest.raises(error, match="enough"):
        ensemble.fit(X, Y, callbacks=make, epochs=4, batch_size=8, verbose=0, **held_out)
    for k, member in enumerate(ensemble.members):
        gpumlp.utils.set_random_seed(k)
        model = build()
        model.fit(X, Y, epochs=2, batch_size=8, verbose=0, **held_out)
        assert state(member)[:2] == state(model)[:2]
        epochs = 1 if validated and k == 2 else 2  # its validation was not done
        assert member.history.epoch == list(range(epochs))
        assert {name: v[:epochs] for name, v in model.history.history.items()} == member.history.history


def test_an_exception_within_an_epoch(family):
    def fail(batch, logs):
        if batch == 2:
            raise OSError("enough")

    ensemble = gpumlp.Ensemble(build, 3)
    with pytest.raises(OSError, match="enough"):
        make = [LambdaCallback(on_train_batch_end=fail)]
        ensemble.fit(X, Y, callbacks=lambda k: make if k == 1 else None, batch_size=8, epochs=2, verbose=0)
    assert [member.optimizer.iterations for member in ensemble.members] == [3, 3, 3]
    assert [member.history.epoch for member in ensemble.members] == [[], [], []]


def test_the_display_shows_the_mean_of_those_that_train(capsys):
    last = [4, 10, 20]
    ensemble = gpumlp.Ensemble(build, 3)
    how = {"epochs": 3, "batch_size": 8, "validation_split": 0.2, "verbose": 2}
    ensemble.fit(X, Y, callbacks=lambda k: [Steps(last[k])], **how)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    for epoch, count in enumerate([3, 2, 2]):
        values = [m.history.history["val_loss"][epoch] for m in ensemble.members if epoch in m.history.epoch]
        assert len(values) == count and f"val_loss: {np.mean(values):.4f}" in lines[epoch]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({"callbacks": [7]}, TypeError, "Callback objects; got 7"),
        ({"validation_data": data(9)[0]}, ValueError, "validation_data must be"),
        ({"validation_data": (X[:, :2], Y)}, ValueError, "samples of shape"),
        ({"validation_split": 1.0}, ValueError, "number >= 0 and < 1; got 1"),
        ({"validation_freq": 0}, ValueError, "validation_freq"),
        ({"initial_epoch": -1}, ValueError, "initial_epoch"),
        ({"class_weight": {0: 1.0}, "sample_weight": np.ones(40)}, ValueError, "class_weight"),
    ],
)
def test_bad_input_changes_nothing(how, error, match):
    ensemble = gpumlp.Ensemble(build, 2)
    ensemble.fit(X, Y, verbose=0, callbacks=Counts())
    before, own = [state(member) for member in ensemble.members], ensemble.callbacks
    with pytest.raises(error, match=match):
        ensemble.fit(X, Y, verbose=0, **how)
    assert [state(member) for member in ensemble.members] == before and ensemble.callbacks is own
