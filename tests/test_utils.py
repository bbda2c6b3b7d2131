"""What `gpumlp.utils`, `gpumlp.config`, `gpumlp.random` and `gpumlp.backend` have of Keras's."""

import logging

import numpy as np
import pytest

import gpumlp
from gpumlp import backend, config, layers, models, random, utils


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert (utils.normalize(x) == [[0.6, 0.8], [0.0, 0.0]]).all()
    assert (utils.normalize(x, 0, 1) == [[1.0, 1.0], [0.0, 0.0]]).all()
    assert utils.normalize([3, 4]).shape == (1, 2) and utils.normalize([3, 4]).dtype == np.float32
    assert utils.normalize(np.array([[3, 4]])).dtype == np.float64
    with pytest.raises(TypeError, match="x must be an array of numbers"):
        utils.normalize(["a"])


def test_pad_sequences():
    words = [[1], [2, 3], [4, 5, 6]]
    assert utils.pad_sequences(words).tolist() == [[0, 0, 1], [0, 2, 3], [4, 5, 6]]
    assert utils.pad_sequences(words).dtype == np.int32
    assert utils.pad_sequences(words, 2).tolist() == [[0, 1], [2, 3], [5, 6]]
    ends = utils.pad_sequences(words, 2, "float32", "post", "post", -1.0)
    assert ends.tolist() == [[1, -1], [2, 3], [4, 5]] and ends.dtype == np.float32
    assert utils.pad_sequences([[[1, 2]], []]).tolist() == [[[1, 2]], [[0, 0]]]
    assert utils.pad_sequences([["a"], []], dtype=object, value="-").tolist() == [["a"], ["-"]]
    assert utils.pad_sequences(words, 0).shape == (3, 0) and utils.pad_sequences([]).shape == (0, 0)
    for wrong, words_of_it in (
        ({"padding": "left"}, "padding must be 'pre' or 'post'; got 'left'"),
        ({"sequences": [1, 2]}, "sequences must be a list of lists"),
        ({"value": "-"}, "dtype=object"),
        ({"sequences": [[[1, 2]], [[1]]]}, "shape"),
    ):
        with pytest.raises(ValueError, match=words_of_it):
            utils.pad_sequences(**{"sequences": words, **wrong})


def test_clear_session_starts_the_names_again():
    layers.Dense(1)
    for clear in (utils.clear_session, backend.clear_session):
        clear()
        assert layers.Dense(1).name == "dense" and layers.Dense(1).name == "dense_1"


def test_what_is_one_value_here():
    assert config.epsilon() == backend.epsilon() == 1e-7 and config.image_data_format() == "channels_last"
    assert backend.backend() == config.backend() == "numpy" and backend.floatx() == "float32"
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    with pytest.raises(NotImplementedError, match="got value"):
        config.set_epsilon(1e-3)
    with pytest.raises(NotImplementedError, match="channels_last"):
        backend.set_image_data_format("channels_first")


def test_without_interactive_logging_the_logger_has_it(capsys, caplog):
    model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    utils.disable_interactive_logging()
    try:
        assert not config.is_interactive_logging_enabled()
        with caplog.at_level(logging.INFO, "gpumlp"):
            model.fit(np.ones((4, 2)), np.ones(4), epochs=2)
    finally:
        config.enable_interactive_logging()
    assert config.is_interactive_logging_enabled() and capsys.readouterr().out == ""
    assert "Epoch 2/2" in caplog.text and "loss" in caplog.text


def test_random_arrays():
    draws = {
        "normal": random.normal((200, 50), 1.0, 2.0, seed=1),
        "uniform": random.uniform((200, 50), -1.0, 3.0, seed=1),
        "truncated_normal": random.truncated_normal((200, 50), 1.0, 2.0, seed=1),
        "randint": random.randint((200, 50), -1, 4, seed=1),
    }
    for name, found in draws.items():
        assert found.shape == (200, 50) and abs(found.mean() - 1) < 0.1, name
        assert found.dtype == ("int32" if name == "randint" else "float32")
    assert abs(draws["normal"].std() - 2) < 0.1
    assert draws["uniform"].min() >= -1 and draws["uniform"].max() <= 3
    assert np.abs(draws["truncated_normal"] - 1).max() < 4
    assert set(np.unique(draws["randint"])) == {-1, 0, 1, 2, 3}
    assert random.normal((2,), dtype="float64", seed=1).dtype == np.float64


def test_classes_are_drawn_by_their_logits_and_orders_anew():
    found = random.categorical(np.log([[0.2, 0.8, 1e-30], [1e-30, 1e-30, 1.0]]), 2000, seed=3)
    assert found.shape == (2, 2000) and found.dtype == np.int32 and (found[1] == 2).all()
    assert abs(found[0].mean() - 0.8) < 0.05 and found[0].max() == 1
    x = np.arange(20).reshape(10, 2)
    rows = random.shuffle(x, seed=3)
    assert (np.sort(rows, 0) == x).all() and (rows != x).any() and (rows[:, 1] == rows[:, 0] + 1).all()
    assert {tuple(row) for row in random.shuffle(x, 1, seed=1)} in ({tuple(r) for r in x}, {tuple(r[::-1]) for r in x})


def test_a_seed_gives_the_same_numbers_and_the_stream_goes_on():
    assert (random.normal((3,), seed=5) == random.normal((3,), seed=5)).all()
    seeds = random.SeedGenerator(5)
    assert (random.normal((3,), seed=seeds) != random.normal((3,), seed=seeds)).all()
    utils.set_random_seed(1)
    first = gpumlp.random.uniform((3,))
    second = random.uniform((3,))
    utils.set_random_seed(1)
    assert (random.uniform((3,)) == first).all() and (second != first).all()
