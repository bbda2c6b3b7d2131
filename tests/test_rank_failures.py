"""One model over ranks, where one of them fails, leaves, or does something else than the others."""

import csv
import os
import time

import mpi
import numpy as np
import pytest
from ranks import over

import gpumlp
from gpumlp import layers, optimizers
from gpumlp.callbacks import BackupAndRestore, CSVLogger, EarlyStopping, ModelCheckpoint
from gpumlp.distributed.agreement import agreed, by_one, failing_together
from gpumlp.models import alike

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
WITHIN = 20  # seconds in which all have ended


def model(comm):
    made = gpumlp.Sequential([layers.Input((3,)), layers.Dense(8, "relu"), layers.Dense(1)])
    made.compile("adam", "mse", distributed=comm)
    return made


# ---- agreement -------------------------------------------------------------------------------------------------------


def test_what_one_rank_cannot_prepare_ends_it_on_all_with_the_reason():
    def work(comm):
        def prepare():
            if comm.rank == 2:
                raise KeyError("no such column")
            return comm.rank

        with pytest.raises(Exception) as found:
            agreed(comm, "train", prepare, lambda _: {})
        return found.value

    found = over(4, work)
    assert isinstance(found[2], KeyError)
    for rank in (0, 1, 3):
        assert isinstance(found[rank], RuntimeError)
        assert str(found[rank]) == "Rank 2 of 4 could not train, and so none does. It has KeyError: 'no such column'"


def test_ranks_that_would_do_different_things_are_told_what_differs():
    def work(comm):
        own = {"the batch size": 20, "the epochs": 3 + (comm.rank == 1)}
        with pytest.raises(ValueError, match=r"the epochs is 4 on rank 1, and 3 on rank 0\. Have all ranks make"):
            agreed(comm, "train", lambda: None, lambda _: own)

    over(2, work)


def test_one_does_what_is_for_all_and_all_have_what_it_gave():
    done = []
    found = over(4, lambda comm: by_one(comm, "write", lambda: done.append(comm.rank) or "written"))
    assert found == ["written"] * 4 and done == [0]
    assert by_one(None, "write", lambda: 3) == 3


def test_an_exception_that_all_ranks_have_is_each_ones_own():
    def work(comm):
        with pytest.raises(ValueError, match="alike"), failing_together(comm):
            raise ValueError("alike")
        return comm.gather(comm.rank)

    assert over(2, work) == [[0, 1]] * 2


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"y": Y[:-1]}, "Data cardinality is ambiguous"),
        ({"y": Y + 1}, r"the CRC-32 of some y is \d+ on rank 1, and \d+ on rank 0\. .* with all of the data"),
        ({"batch_size": 8}, "the batch size is 8 on rank 1, and 10 on rank 0"),
        ({"epochs": 3}, r"the epochs is \(0, 3\) on rank 1, and \(0, 2\) on rank 0"),
        ({"validation_split": 0.5}, "the number of samples is 20 on rank 1, and 40 on rank 0"),
    ],
)
def test_fit_begins_on_all_ranks_or_on_none(changed, told):
    def work(comm):
        arguments = {"x": X, "y": Y, "batch_size": 10, "epochs": 2, "verbose": 0}
        own = model(comm)
        before = own.get_weights()
        with pytest.raises((ValueError, RuntimeError), match=told):
            own.fit(**arguments | (changed if comm.rank == 1 else {}))
        assert own.optimizer.iterations == 0
        own.fit(**arguments)  # they go on
        return before, own.get_weights()

    (_, first), (_, second) = over(2, work)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda rank: ("adam", ["mse", "mae"][rank]), "the loss is 'mae' on rank 1, and 'mse' on rank 0"),
        (lambda rank: (optimizers.Adam([0.1, 0.01][rank]), "mse"), "the optimizer is"),
        (lambda rank: (optimizers.SGD(0.1, clipnorm=[None, 1.0][rank]), "mse"), "the optimizer is"),
        (lambda rank: ("adam", "mse", None, [["mae"], ["mse"]][rank]), "the metrics is"),
    ],
)
def test_models_that_are_compiled_in_other_ways_are_told_of(made, told):
    def work(comm):
        own = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1)])
        own.compile(*made(comm.rank), distributed=comm)
        for call in (own.fit, own.evaluate, own.train_on_batch, own.test_on_batch):
            with pytest.raises(ValueError, match=told):
                call(X, Y)

    over(2, work)


def test_what_one_rank_alone_has_is_told_of_whichever_it_is():
    weights = np.linspace(0, 4, len(X))

    def work(comm):
        own = model(comm)
        for alone in (0, 1):
            given = {"sample_weight": weights if comm.rank == alone else None}
            for call in (own.fit, own.evaluate, own.train_on_batch, own.test_on_batch):
                with pytest.raises(ValueError, match="the CRC-32 of some sample weights is"):
                    call(X, Y, **given)
            more = [layers.Activation("tanh")] * (comm.rank == alone)
            other = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1), *more])
            other.compile("adam", "mse", distributed=comm)
            with pytest.raises(ValueError, match=r"layer 2 \(Activation\) is"):
                other.fit(X, Y, verbose=0)

    over(2, work)


def test_layers_that_draw_on_one_rank_alone_are_told_of_by_all():
    def work(comm):
        own = gpumlp.Sequential([layers.Input((3,)), *[layers.Dropout(0.1)] * comm.rank, layers.Dense(1)])
        with pytest.raises(ValueError, match=r"the layers that draw are \[0, 1\] on the ranks"):
            own.compile("adam", "mse", distributed=comm)

    over(2, work)


def test_things_are_compared_by_what_they_are():
    def of(slope):
        return lambda z: z * slope

    words = alike._words
    assert words({"b", "a", "c", "zzz"}, {"x": 1, "y": {2}}) == words({"zzz", "c", "a", "b"}, {"y": {2}, "x": 1})
    assert words(of(2)) == words(of(2)) != words(of(3))
    assert words(lambda z: z + 1) != words(lambda z: z + 2) and words(lambda z: abs(z)) != words(lambda z: max(z))
    assert words(object()) == words(object())


@pytest.mark.parametrize("call", ["fit", "evaluate", "save"])
def test_ranks_that_make_other_calls_are_told_which(tmp_path, call):
    def work(comm):
        own = model(comm)
        own.fit(X, Y, verbose=0)
        calls = {
            "fit": lambda: own.fit(X, Y, verbose=0),
            "evaluate": lambda: own.evaluate(X, Y, batch_size=8, verbose=0),
            "save": lambda: own.save(tmp_path / "m.gpumlp"),
        }
        with pytest.raises(
            RuntimeError, match=r"Rank 1 of 2 is to train on a batch, and rank 0 to (train|evaluate|write)"
        ):
            own.train_on_batch(X, Y) if comm.rank else calls[call]()
        own.fit(X, Y, verbose=0)

    over(2, work)


def test_layers_that_differ_are_told_of():
    def work(comm):
        own = gpumlp.Sequential([layers.Input((3,)), layers.Dropout(0.1 * (1 + comm.rank)), layers.Dense(1)])
        own.compile("adam", "mse", distributed=comm)
        with pytest.raises(ValueError, match=r"layer 1 \(Dropout\) is"):
            own.fit(X, Y, verbose=0)

    over(2, work)


def test_a_model_that_is_distributed_no_more_is_each_rank_s_own(tmp_path):
    def work(comm):
        own = model(comm)
        own.fit(X, Y, verbose=0)
        own.compile(own.optimizer, "mse")
        if comm.rank == 1:
            own.save(tmp_path / "m.gpumlp")
            own.fit(X, Y, verbose=0)
        return own.optimizer.steps

    assert over(2, work) == [2, 4]
    assert gpumlp.models.load_model(tmp_path / "m.gpumlp").optimizer.steps == 2


def test_a_backup_that_one_rank_alone_sees_is_told_of(tmp_path):
    def work(comm):
        own = model(comm)
        folder = tmp_path / str(comm.rank)
        own.fit(X, Y, epochs=2, verbose=0, callbacks=BackupAndRestore(folder, delete_checkpoint=False))
        assert folder.exists() and len(os.listdir(folder)) == (comm.rank == 0)

    over(2, work)
    from gpumlp.callbacks import backup

    backup.completed.clear()

    def again(comm):
        with pytest.raises(ValueError, match="All ranks must go on from a backup alike: the backup"):
            model(comm).fit(X, Y, epochs=3, verbose=0, callbacks=BackupAndRestore(tmp_path / str(comm.rank)))

    over(2, again)


def test_a_rate_that_looks_at_the_steps_is_asked_for_at_each(monkeypatch):
    def work(comm):
        own = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1)])
        asked = []

        def rate():
            asked.append(int(own.optimizer.iterations))
            return 0.1 / (1 + asked[-1])

        own.compile(optimizers.SGD(rate), "mse", distributed=comm)
        own.fit(X, Y, batch_size=2, epochs=3, verbose=0)
        return asked

    assert over(2, work) == [list(range(60))] * 2


def test_random_numbers_that_were_drawn_by_one_rank_alone_are_told_of():
    def work(comm):
        own = model(comm)
        if comm.rank:
            gpumlp.utils.set_random_seed(9)
        with pytest.raises(ValueError, match="the state of random numbers"):
            own.fit(X, Y, verbose=0)

    over(2, work)


def test_weights_that_one_rank_alone_has_set_are_told_of():
    def work(comm):
        own = model(comm)
        own.fit(X, Y, verbose=0)
        if comm.rank:
            own.set_weights([2 * array for array in own.get_weights()])
        for call in (own.fit, own.evaluate, own.train_on_batch):
            with pytest.raises(ValueError, match="a sum of the weights' bits"):
                call(X, Y)

    over(2, work)


# ---- what prints and writes ------------------------------------------------------------------------------------------


def test_one_rank_prints_and_writes_for_all(tmp_path, capsys):
    def work(comm):
        own = model(comm)
        callbacks = [
            CSVLogger(tmp_path / "log.csv"),
            ModelCheckpoint(str(tmp_path / "{epoch}.gpumlp"), "loss", verbose=1),
            EarlyStopping("loss", patience=0, min_delta=1e9, verbose=1),
            BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        ]
        own.fit(X, Y, batch_size=10, epochs=3, verbose=2, callbacks=callbacks)
        return own.get_weights()

    found = over(4, work)
    with open(tmp_path / "log.csv", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["epoch", "0", "1"]
    assert sorted(os.listdir(tmp_path)) == ["1.gpumlp", "2.gpumlp", "backup", "log.csv"]
    loaded = gpumlp.models.load_model(tmp_path / "2.gpumlp")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.get_weights(), found[3], strict=True))
    out = capsys.readouterr().out
    assert [out.count(words) for words in ("Epoch 2/3", "saving model to", "early stopping")] == [1, 2, 1]


BACKED_UP = """
import hashlib, sys
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers

gpumlp.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
model = gpumlp.Sequential([layers.Input((3,)), layers.Dense(8, "relu"), layers.Dropout(0.1), layers.Dense(1)])
model.compile("adam", "mse", distributed=MPI.COMM_WORLD)

class Kill(gpumlp.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and sys.argv[1] == "killed":
            raise RuntimeError("killed")

backup = gpumlp.callbacks.BackupAndRestore(sys.argv[2])
model.fit(x, x[:, :1], batch_size=10, epochs=4, verbose=0, callbacks=[Kill(), backup])
if MPI.COMM_WORLD.rank == 0:
    print(hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest())
"""


def test_a_backup_by_four_ranks_is_gone_on_from_by_two(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(BACKED_UP, encoding="utf-8")
    whole = mpi.run(1, script, "whole", tmp_path / "other")
    assert "RuntimeError: killed" in mpi.run(4, script, "killed", tmp_path / "backup").stderr
    assert len(os.listdir(tmp_path / "backup")) == 1
    resumed = mpi.run(2, script, "resumed", tmp_path / "backup")
    assert resumed.stdout == whole.stdout and whole.stdout, resumed.stderr
    assert os.listdir(tmp_path) == ["train.py"]


def test_a_file_that_rank_0_cannot_write_is_told_on_all(tmp_path):
    def work(comm):
        own = model(comm)
        with pytest.raises((OSError, RuntimeError), match="The folder of the file does not exist"):
            own.save(tmp_path / "nowhere" / "m.gpumlp")
        own.save(tmp_path / "m.gpumlp")
        with pytest.raises((FileExistsError, RuntimeError), match="is there already"):
            own.save(tmp_path / "m.gpumlp", overwrite=False)

    over(2, work)
    assert os.listdir(tmp_path) == ["m.gpumlp"]


# ---- processes -------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys, time
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers

rank, mode = MPI.COMM_WORLD.rank, sys.argv[1]
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
model = gpumlp.Sequential([layers.Input((3,)), layers.Dense(8, "relu"), layers.Dense(1)])
model.compile("adam", "mse", distributed=MPI.COMM_WORLD)

class At(gpumlp.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if rank == 1 and epoch == 1:
            if mode == "callback":
                raise ValueError("rank 1 has had enough")
            if mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if mode == "interrupt":
                raise KeyboardInterrupt
        if mode == "all":
            raise ValueError("all of us")

if mode == "before" and rank == 1:
    open("no such file")
if mode == "leave" and rank == 1:
    sys.exit()
try:
    model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=At())
except ValueError as error:
    sys.stdout.write(f"caught {error} {MPI.COMM_WORLD.allgather(rank)}\\n")  # at once: ranks share it
if mode == "late" and rank == 0:
    time.sleep(3)  # the others wait for it at their end, as for one that plots
sys.stdout.write("done\\n")
"""


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("callback", "ValueError: rank 1 has had enough"),
        ("interrupt", "KeyboardInterrupt"),
        ("before", "No such file or directory: 'no such file'"),
        ("leave", "gpumlp: rank 1 of 2 has ended, and rank 0 waits for it"),
        ("kill", ""),
    ],
)
def test_a_rank_that_fails_ends_all_and_says_why(tmp_path, mode, told):
    script = tmp_path / "fail.py"
    script.write_text(SCRIPT, encoding="utf-8")
    began = time.monotonic()
    found = mpi.run(2, script, mode)
    assert time.monotonic() - began < WITHIN
    assert found.returncode != 0 and told in found.stderr and "done" not in found.stdout


@pytest.mark.parametrize(("mode", "out"), [("all", "caught all of us [0, 1]"), ("late", "done")])
def test_what_all_ranks_do_alike_ends_none_of_them(tmp_path, mode, out):
    script = tmp_path / "go_on.py"
    script.write_text(SCRIPT, encoding="utf-8")
    found = mpi.run(2, script, mode)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(out) == found.stdout.count("done") == 2


GROUPS = """
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers

world = MPI.COMM_WORLD
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")

def trained(comm, seed):
    gpumlp.utils.set_random_seed(seed)
    model = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("adam", "mse", distributed=comm)
    assert (model.distributed.rank, model.distributed.size) == (comm.rank, comm.size)
    model.fit(x, x[:, :1], verbose=0)
    return model.get_weights()[0].tobytes()

first = world.Split(world.rank // 2, world.rank)
trained(first, 0)
first.Free()
second = world.Split(world.rank % 2, world.rank)  # its handle may be that of the first
own = trained(second, world.rank % 2)
found = world.allgather(own)
assert found[0] == found[2] != found[1] == found[3]
inter = second.Create_intercomm(0, world, 1 - world.rank % 2)
try:
    trained(inter, 0)
except TypeError as error:
    assert "must be an intracommunicator" in str(error)
else:
    raise AssertionError("an intercommunicator was taken")
"""


def test_groups_of_ranks_train_their_own_models(tmp_path):
    script = tmp_path / "groups.py"
    script.write_text(GROUPS, encoding="utf-8")
    found = mpi.run(4, script)
    assert found.returncode == 0, found.stderr


SLOW = """
import time
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers
from gpumlp.distributed import mpi

world = MPI.COMM_WORLD
mpi.LOOK, mpi.NAP = 0.0, 0.00001  # hundreds of looks a second, as of minutes
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
model = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1)])
model.compile("adam", "mse", distributed=world)
for turn in range(4):
    if world.rank == turn % 2:
        time.sleep(1)
    model.fit(x, x[:, :1], verbose=0)
for _ in range(600):  # more than MPI has communicators for, if they were not given back
    group = world.Split(0, world.rank)
    assert mpi.of(group) is mpi.of(group)
    group.Free()
"""


def test_a_slow_rank_is_waited_for_and_groups_are_given_back(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW, encoding="utf-8")
    found = mpi.run(2, script)
    assert found.returncode == 0, found.stderr


ELSEWHERE = """
import sys
import numpy as np
from mpi4py import MPI
import gpumlp
from gpumlp import layers

rank, mode = MPI.COMM_WORLD.rank, sys.argv[1]
x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
model = gpumlp.Sequential([layers.Input((3,)), layers.Dense(1)])
model.compile("adam", "mse", distributed=MPI.COMM_WORLD)
at = gpumlp.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: model.save(sys.argv[2]) if rank == 0 and mode == "callback" else None
)
model.fit(x, x[:, :1], epochs=3, verbose=0, callbacks=at)
if rank == 0 and mode == "variables":
    model.optimizer.variables
model.evaluate(x, x[:, :1], batch_size=8, verbose=0)
"""


@pytest.mark.parametrize("mode", ["callback", "variables"])
def test_ranks_that_wait_for_each_other_in_other_calls_end(tmp_path, mode):
    script = tmp_path / "elsewhere.py"
    script.write_text(ELSEWHERE, encoding="utf-8")
    began = time.monotonic()
    found = mpi.run(2, script, mode, str(tmp_path / "m.gpumlp"))
    assert time.monotonic() - began < WITHIN and found.returncode != 0
    assert "waits for others in" in found.stderr and "All ranks must make the same calls" in found.stderr


THREADS = """
import os
from mpi4py import MPI
from gpumlp.backends import team
from gpumlp.distributed import communicator_of

os.environ.pop("GPUMLP_THREADS")  # before anybody has asked
assert communicator_of(MPI.COMM_WORLD) is communicator_of(MPI.COMM_WORLD)
there = len(os.sched_getaffinity(0))
assert team.processors() == max(1, there // MPI.COMM_WORLD.size), (team.processors(), there)
"""


def test_ranks_of_a_machine_share_its_processors(tmp_path):
    script = tmp_path / "threads.py"
    script.write_text(THREADS, encoding="utf-8")
    for size in (1, 2):
        found = mpi.run(size, script)
        assert found.returncode == 0, found.stderr
