"""Pictures of models."""

import itertools
import subprocess
import sys
import types

import pytest

from gpumlp import Sequential, layers, utils
from gpumlp.plotting.diagram import plot_model


def net():
    return Sequential(
        [layers.Input((4,)), layers.Dense(300, "relu", name="first"), layers.Dropout(0.1), layers.Dense(1, name="last")]
    )


def texts(model, **given):
    figure = plot_model(model, None, **given)
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_what_it_says():
    assert texts(net()) == ["Input", "Dense", "Dropout", "Dense"]
    assert texts(net(), show_layer_names=True)[1] == "first (Dense)"
    assert texts(net(), show_shapes=True)[3:9] == [
        "Dense",
        "1,500 params",
        "input",
        "(None, 4)",
        "output",
        "(None, 300)",
    ]
    found = texts(net(), show_layer_activations=True, show_dtype=True, show_trainable=True)
    assert found[3:10] == ["Dense", "activation", "relu", "dtype", "float32", "trainable", "yes"]


def test_models_among_the_layers():
    inner = Sequential([layers.Input((4,)), layers.Dense(2), layers.Dense(3)], name="inner")
    model = Sequential([inner, layers.Dense(1)])
    assert texts(model) == ["Input", "Sequential", "Dense"]
    found = texts(model, expand_nested=True, show_shapes=True)
    assert found[0] == "inner (Sequential)" and found.count("Dense") == 3 and "(None, 3)" in found


@pytest.mark.parametrize("direction", ["TB", "BT", "LR", "RL"])
def test_no_two_cards_overlap_and_all_are_in_the_picture(direction):
    from gpumlp.plotting.diagram import DIRECTIONS, _cards, _first, _measure, _place

    assert direction in DIRECTIONS
    inner = Sequential(
        [layers.Input((300,)), layers.Dense(2), Sequential([layers.Dense(5)], name="deep")], name="inner"
    )
    model = net()
    model.pop()
    model.add(inner)
    model.add(layers.Dense(1, name="a_name_that_is_long"))
    shown = dict.fromkeys(("shapes", "dtype", "names", "activations", "trainable"), True)
    cards = [_first(model, (4,), shown), *_cards(model, (4,), shown, True, ())]
    cards = cards if direction in ("TB", "LR") else cards[::-1]
    down = direction in ("TB", "BT")
    _measure(cards, down)
    frames, width, height = _place(cards, down)
    for box in (*cards, *frames):
        assert 0 < box.x and 0 < box.y and box.x + box.width < width and box.y + box.height < height
    for one, two in itertools.pairwise(cards):
        assert two.y + two.height < one.y if down else one.x + one.width < two.x
    assert [frame.title for frame in sorted(frames, key=lambda frame: frame.depth)] == [
        "inner (Sequential)", "deep (Sequential)",
    ]  # fmt: skip
    for frame in frames:
        inside = [card for card in cards if frame.title in card.inside]
        assert inside and all(frame.x < c.x and c.x + c.width < frame.x + frame.width for c in inside)
        assert all(frame.y < c.y and c.y + c.height < frame.y + frame.height for c in inside)
        rest = [card for card in cards if frame.title not in card.inside]
        for c in rest:
            assert (
                c.y > frame.y + frame.height or c.y + c.height < frame.y
                if down
                else (c.x > frame.x + frame.width or c.x + c.width < frame.x)
            )
    assert plot_model(model, None, rankdir=direction, expand_nested=True).get_size_inches().min() > 1


@pytest.mark.parametrize("name", ["model.png", "model.svg", "model.pdf", "model"])
def test_the_file(tmp_path, name):
    assert utils.plot_model(net(), tmp_path / name, show_shapes=True, dpi=30) is None
    (made,) = tmp_path.iterdir()
    start = {"svg": b"<?xml", "pdf": b"%PDF"}.get(made.suffix[1:], b"\x89PNG")
    assert made.name == (name if "." in name else "model.png") and made.read_bytes().startswith(start)


def test_a_notebook_shows_the_image(tmp_path, monkeypatch):
    display = types.ModuleType("IPython.display")
    display.Image = lambda filename: ("image", filename)
    for name, module in (
        ("ipykernel", display),
        ("IPython", types.ModuleType("IPython")),
        ("IPython.display", display),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    assert plot_model(net(), str(tmp_path / "a.png"), dpi=20) == ("image", str(tmp_path / "a.png"))
    assert plot_model(net(), str(tmp_path / "a.pdf")) is None


def test_what_cannot_be_drawn(monkeypatch):
    with pytest.raises(ValueError, match="built"):
        plot_model(Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="rankdir must be one of TB, BT, LR, RL; got 'UP'"):
        plot_model(net(), rankdir="UP")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"gpumlp\[plot\]"):
        plot_model(net())


def test_matplotlib_is_imported_when_one_is_drawn():
    code = "import sys, gpumlp; gpumlp.utils.plot_model; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
