"""The table of a model's layers."""

from dataclasses import replace

import numpy as np
import pytest

from gpumlp import layers, models, optimizers


def shown(model, **given):
    got = []
    model.summary(print_fn=got.append, **given)
    (text,) = got
    assert text.endswith("\n")
    lines = text.splitlines()
    table = [line for line in lines if line[0] in "┏┃┡│├└"]
    assert len({len(line) for line in table}) == 1  # the frame is straight
    return lines, len(table[0])


def net(**given):
    return models.Sequential(
        [layers.Input((3,)), layers.Dense(256, "relu", name="first"), layers.Dropout(0.1, name="drop"),
         layers.Dense(1, name="last")], name="net", **given,
    )  # fmt: skip


def test_before_and_after_the_input_shape_is_known():
    model = models.Sequential([layers.Dense(256, "relu", name="first"), layers.Dense(1, name="last")], name="net")
    lines, _ = shown(model)
    assert lines[0] == 'Model: "net"' and "first (Dense)" in lines[4] and "?" in lines[4] and "(unbuilt)" in lines[4]
    assert lines[-3] == " Total params: 0 (0.00 B)"
    model.build((None, 3))
    lines, width = shown(model)
    assert width == 76 and "(None, 256)" in lines[4] and "1,024" in lines[4]
    assert lines[-3:] == [
        " Total params: 1,281 (5.00 KB)", " Trainable params: 1,281 (5.00 KB)", " Non-trainable params: 0 (0.00 B)",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 50, 61, 80, 100, 200])
@pytest.mark.parametrize(
    "given", [{}, {"show_trainable": True}, {"positions": [0.5, 0.7, 1.0]}, {"positions": [9, 20, 40]}]
)
def test_it_is_as_wide_as_asked(width, given):
    if width < 50 and "positions" not in given and "show_trainable" in given:
        with pytest.raises(ValueError, match="Insufficient console width"):
            shown(net(), line_length=width, **given)
    else:
        lines, found = shown(net(), line_length=width, **given)
        assert found == width and any("first" in line for line in lines)


def test_it_is_as_wide_as_the_terminal_but_not_wider_than_is_good_to_read(monkeypatch):
    for columns, width in (("60", 56), ("300", 88), ("20", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        assert shown(net())[1] == width


def test_positions_are_where_columns_end():
    lines, _ = shown(net(), line_length=101, positions=[0.3, 0.6, 1.0])
    assert [i for i, stroke in enumerate(lines[1]) if stroke in "┏┳┓"] == [0, 30, 60, 100]
    assert [i for i, s in enumerate(shown(net(), line_length=101, positions=[30, 60, 100])[0][1]) if s != "━"] == [
        0, 30, 60, 100,
    ]  # fmt: skip


def test_what_does_not_fit_goes_on_in_the_next_line():
    model = models.Sequential([layers.Input((3,)), layers.Dense(1, name="a_name_that_is_longer_than_its_column")])
    lines, _ = shown(model, line_length=60)
    assert [line[2:25] for line in lines[4:6]] == ["a_name_that_is_longer_t", "han_its_column (Dense) "]


def test_what_is_trained():
    model = net()
    model.layers[0].trainable = False
    lines, _ = shown(model, show_trainable=True)
    marks = [line.split("│")[4].strip() for line in lines[4:-4] if line[0] == "│"]
    assert "Trainable" in lines[2] and marks == ["N", "-", "Y"]
    assert lines[-2:] == [" Trainable params: 257 (1.00 KB)", " Non-trainable params: 1,024 (4.00 KB)"]


def test_a_layer_s_own_state_is_not_trained(monkeypatch):
    specs = layers.Dense.specs
    monkeypatch.setattr(
        layers.Dense,
        "specs",
        lambda self, shape: [replace(s, trainable=s.name == "kernel") for s in specs(self, shape)],
    )
    model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
    assert shown(model)[0][-2:] == [" Trainable params: 6 (24.00 B)", " Non-trainable params: 2 (8.00 B)"]


@pytest.mark.parametrize(
    ("optimizer", "count"),
    [("sgd", 2), (optimizers.SGD(momentum=0.9), 1283), ("adam", 2564), (optimizers.Adam(amsgrad=True), 3845),
     ("adagrad", 1283), (optimizers.Adam(use_ema=True), 3845)],
)  # fmt: skip
def test_the_optimizer_s_numbers_count_when_it_has_trained(optimizer, count):
    model = net()
    model.compile(optimizer, "mse")
    assert len([line for line in shown(model)[0] if "params" in line]) == 3
    model.fit(np.zeros((4, 3)), np.zeros(4), verbose=0)
    lines, _ = shown(model)
    assert lines[-1].startswith(f" Optimizer params: {count:,} (")
    assert lines[-4].startswith(f" Total params: {count + 1281:,} (")


def test_models_among_the_layers():
    inner = models.Sequential([layers.Input((3,)), layers.Dense(4, name="deep")], name="inner")
    model = models.Sequential([inner, layers.Dense(1, name="last")])
    assert not any("deep" in line for line in shown(model)[0])
    lines, _ = shown(model, expand_nested=True)
    rows = [line for line in lines if line[0] == "│"]
    assert "inner (Sequential)" in rows[0] and "16" in rows[0] and "(None, 4)" in rows[0]
    assert "   └ deep (Dense)" in rows[1] and "(None, 4)" in rows[1] and "last (Dense)" in rows[2]


def test_a_range_of_layers():
    def names(*between):
        return [line.split()[1] for line in shown(net(), layer_range=between)[0] if line[0] == "│"]

    assert names("first", "drop") == ["first", "drop"] and names("drop", "last") == ["drop", "last"]
    assert names("d.*", "d.*") == ["drop"] and names("last", "drop") == ["drop", "last"]
    for wrong in (("first",), "first", ("first", 3), ("first", "none")):
        with pytest.raises(ValueError, match="layer_range must"):
            net().summary(layer_range=wrong)


@pytest.mark.parametrize("wrong", [[0.5, 1.0], [0.5, 0.3, 1.0], [0, 1, 2]])
def test_positions_that_are_none(wrong):
    with pytest.raises(ValueError, match="positions must be where 3 columns end"):
        net().summary(positions=wrong)


def test_a_double_is_twice_as_large():
    assert shown(net(dtype="float64"))[0][-3] == " Total params: 1,281 (10.01 KB)"
