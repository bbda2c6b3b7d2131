"""Training that was cut off goes on with the same bits on data that have an order of their own."""

import random

import numpy as np
import pytest
from test_resuming import CutOff, Stop, X, Y, build, came_of

from gpumlp import callbacks, utils

pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out")
ROWS = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 48, 8)]


class Permuted:
    """Another order in each pass, by the numbers of NumPy's and Python's that all draw from."""

    def __iter__(self):
        for i in np.random.permutation(len(ROWS)):
            x, y = ROWS[i]
            yield x, y + random.random() / 10


class Remembering:
    """Another order in each pass, by numbers of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(3)

    def __iter__(self):
        return (ROWS[i] for i in self.rng.permutation(len(ROWS)))

    def get_state(self):
        return self.rng.bit_generator.state

    def set_state(self, state):
        self.rng.bit_generator.state = state


class Shuffling(utils.PyDataset):
    """Another order after each epoch, in place."""

    def __init__(self, workers=1):
        super().__init__(workers=workers)
        self.rng, self.order = np.random.default_rng(3), np.arange(len(ROWS))

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, i):
        return ROWS[self.order[i]]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


class Stateful(Shuffling):
    def get_state(self):
        return {"order": self.order.copy(), "rng": self.rng.bit_generator.state}

    def set_state(self, state):
        self.order, self.rng.bit_generator.state = np.array(state["order"]), state["rng"]


class Reading:
    """An iterator that knows where it is."""

    def __init__(self):
        self.at, self.read = 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at, self.read = self.at + 1, self.read + 1
        return ROWS[self.at * 5 % len(ROWS)]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


def of_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    pairs = torch.utils.data.TensorDataset(torch.tensor(X[:48]), torch.tensor(Y[:48]))
    return {"x": torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True)}


def of_blocks(**how):
    return {"x": utils.Blocks(X[:50], Y[:50], block_size=7, shuffle_blocks=3), "batch_size": 9, **how}


DATA = {
    "permuted": lambda: {"x": Permuted()}, "over epochs": lambda: {"x": Permuted(), "steps_per_epoch": 4},
    "torch": of_torch, "remembering": lambda: {"x": Remembering()}, "dataset": lambda: {"x": Stateful()},
    "iterator": lambda: {"x": Reading(), "steps_per_epoch": 4}, "blocks": lambda: of_blocks(),
    "blocks over epochs": lambda: of_blocks(steps_per_epoch=3),
}  # fmt: skip


def train(folder, data, cut=None, freq="epoch", seed=1, **how):
    model = build(seed)
    backup = callbacks.BackupAndRestore(folder, save_freq=freq, delete_checkpoint=False)
    how = {"epochs": 5, "validation_data": (X[50:], Y[50:]), **data(), **how}
    return came_of(model, model.fit(**how, callbacks=[backup, *([cut] if cut else [])], verbose=0))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize(("freq", "cut"), [("epoch", (1, None)), ("epoch", (2, 1)), (1, (0, 2)), (1, (2, 1))], ids=str)
def test_the_order_goes_on(tmp_path, data, freq, cut):
    alone = train(tmp_path / "alone", data, freq=freq)
    with pytest.raises(Stop):
        train(tmp_path / "cut", data, CutOff(*cut), freq=freq)
    assert train(tmp_path / "cut", data, freq=freq) == alone


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"block_size": 8, "shuffle_blocks": 3}, "is of a fit on <Blocks: 50 rows in 8 blocks, of which 3 are mixed>"),
        ({"block_size": 7, "shuffle_blocks": 2}, "of which 3 are mixed>.*; here they are <.*of which 2 are mixed>"),
    ],
)
def test_other_blocks_are_not_gone_on_with(tmp_path, other, message):
    with pytest.raises(Stop):
        train(tmp_path, of_blocks, CutOff(1))
    with pytest.raises(ValueError, match=message):
        train(tmp_path, lambda: {"x": utils.Blocks(X[:50], Y[:50], **other), "batch_size": 9})


def test_an_iterator_that_has_a_state_is_not_read_again(tmp_path):
    with pytest.raises(Stop):
        train(tmp_path, lambda: {"x": Reading(), "steps_per_epoch": 4}, CutOff(3))
    source = Reading()
    train(tmp_path, lambda: {"x": source, "steps_per_epoch": 4})
    assert source.read == 2 + 8  # two to know shapes by


def test_a_validation_by_a_generator_goes_on_where_it_was(tmp_path):
    def batches():
        for i in range(1000):
            yield X[i % 60 : i % 60 + 5], Y[i % 60 : i % 60 + 5] + i

    how = {"validation_steps": 3}
    alone = train(tmp_path / "alone", lambda: {"x": Permuted(), "validation_data": batches()}, **how)
    for cut in ((2, None), (3, 1)):
        with pytest.raises(Stop):
            train(tmp_path / "cut", lambda: {"x": Permuted(), "validation_data": batches()}, CutOff(*cut), **how)
    found = train(tmp_path / "cut", lambda: {"x": Permuted(), "validation_data": batches()}, **how)
    assert alone[1]["val_loss"][0] < alone[1]["val_loss"][1] and found == alone


def test_data_that_change_by_themselves_are_told_about(tmp_path):
    model = build()
    with pytest.warns(UserWarning, match=r"Shuffling changes its data between epochs.*get_state"):
        model.fit(Shuffling(), callbacks=[callbacks.BackupAndRestore(tmp_path)], verbose=0)
    model.fit(Shuffling(), verbose=0)  # and without a backup nobody is told
    with pytest.raises(Stop):
        train(tmp_path, lambda: {"x": Permuted()}, CutOff(1))
    with pytest.raises(ValueError, match="data without a state"):
        train(tmp_path, DATA["remembering"])
