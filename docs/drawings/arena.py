"""Draw an arena (gpumlp/engine/arena.py): where the weights of two models stand that share layers.

The models are made, and asked for a prediction each; where their arrays are is what their layers then say.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from drawings.svg import document, led, line, rect, text

from gpumlp import layers, models
from gpumlp.engine.arena import Arena, home_of

TITLE = "An arena: the weights of all layers in one flat array, and what belongs to them at the same places"
LEFT, TOP, BAR, THIN, SCALE = 84, 74, 28, 14, 2.75
COLOURS = {"dense": "forward", "dense_1": "update", "head": "loss", "new_head": "backward"}
BESIDE = ("gradients", "Adam's m", "Adam's v")


class Piece(NamedTuple):
    """An array of a layer's: from ``begin`` to ``end`` are its numbers, to ``next`` zeros."""

    layer: str
    label: str
    begin: int
    end: int
    next: int


def built() -> tuple[Arena, dict[str, list[layers.Layer]]]:
    """Return the arena of two models that share two layers, and each model's layers."""
    shared = [layers.Dense(8, name="dense"), layers.Dense(8, name="dense_1")]
    stacks = {
        "model A": [*shared, layers.Dense(1, name="head")],
        "model B": [*shared, layers.Dense(3, name="new_head")],
    }
    for stack in stacks.values():
        models.Sequential([layers.Input((4,)), *stack]).predict(np.zeros((1, 4)), verbose=0)
    home = home_of(shared[0])
    assert home is not None
    return home.arena, stacks


def pieces(stacks: dict[str, list[layers.Layer]]) -> list[Piece]:
    """Return the arrays of all layers, in their order in the arena."""
    found = []
    for layer in dict.fromkeys(layer for stack in stacks.values() for layer in stack):
        home = home_of(layer)
        assert home is not None
        for place, letter in zip(home.places, "wb", strict=True):
            shape, begin = home.arena.shapes[place], home.arena.offsets[place]
            label = f"{letter} {' x '.join(map(str, shape))}"
            found.append(Piece(layer.name, label, begin, begin + math.prod(shape), home.arena.ends[place]))
    return sorted(found, key=lambda piece: piece.begin)


def x_of(offset: float) -> float:
    """Return where an offset stands."""
    return LEFT + SCALE * offset


def strip(found: list[Piece], y: float, height: float, kind: str = "") -> list[str]:
    """Return the boxes of one flat array."""
    parts = []
    for piece in found:
        parts.append(
            rect(f"{COLOURS[piece.layer]} {kind}", x_of(piece.begin), y, SCALE * (piece.end - piece.begin) - 1, height)
        )
        if piece.next > piece.end:
            parts.append(rect("wait", x_of(piece.end), y + 0.5, SCALE * (piece.next - piece.end) - 1.5, height - 1))
    return parts


def layers_over(found: list[Piece]) -> list[str]:
    """Return the layers, each with a line to where its arrays begin; and words in the boxes that have room for them."""
    parts = []
    for name in dict.fromkeys(piece.layer for piece in found):
        own = [piece for piece in found if piece.layer == name]
        x, wide = x_of(own[0].begin), SCALE * (own[-1].next - own[0].begin)
        parts += [rect(COLOURS[name], x, 26, min(wide - 1, 76), 20), text(x + min(wide - 1, 76) / 2, 40, name, "in")]
        parts.append(led(x + 8, 46, x + 8, TOP))
    for piece in found:
        wide, letter = SCALE * (piece.end - piece.begin), piece.label[0]
        if wide < 10:
            parts.append(text(x_of(piece.end) + 3, TOP + 18, letter))
        else:
            parts.append(text(x_of(piece.begin) + wide / 2, TOP + 18, piece.label if wide > 40 else letter, "in"))
        parts.append(text(x_of(piece.begin), TOP + BAR + 12, str(piece.begin), "small soft"))
    return parts


def models_below(found: list[Piece], stacks: dict[str, list[layers.Layer]], y: float) -> list[str]:
    """Return of each model where its layers are: from the first to the last, what is another's dashed."""
    parts = []
    for i, (name, stack) in enumerate(stacks.items()):
        own = {layer.name for layer in stack}
        mine, at = [piece for piece in found if piece.layer in own], y + 24 * i
        parts += [text(8, at + 4, name), line(x_of(mine[0].begin), at, x_of(mine[-1].next) - 1, at, "line dashed")]
        parts += [line(x_of(piece.begin), at, x_of(piece.next) - 1, at, "thick") for piece in mine]
    return parts


def beside(found: list[Piece], own: set[str], y: float) -> list[str]:
    """Return what one model has at the places of its weights; where another's are there is nothing of use."""
    mine = [piece for piece in found if piece.layer in own]
    parts = []
    for i, name in enumerate(BESIDE):
        parts += [text(8, y + 20 * i + 11, name), *strip(mine, y + 20 * i, THIN, "pale")]
        for before, after in pairwise(mine):
            if before.next < after.begin:
                wide = SCALE * (after.begin - before.next)
                parts.append(rect("wait", x_of(before.next), y + 20 * i + 0.5, wide - 1.5, THIN - 1))
    return parts


def drawn() -> str:
    """Return the drawing."""
    arena, stacks = built()
    found = pieces(stacks)
    own = {layer.name for layer in stacks["model A"]}
    width, below = x_of(arena.ends[-1]) + 12, TOP + BAR + 32
    end = below + 72 + 20 * len(BESIDE)
    index = next(piece.begin for piece in found if piece.layer == "dense_1") + 40.5
    parts = [text(8, 40, "layers"), text(8, TOP + 18, "weights"), *strip(found, TOP, BAR), *layers_over(found)]
    parts += models_below(found, stacks, below)
    parts.append(text(LEFT, below + 58, "Of model A:", "soft"))
    parts += beside(found, own, below + 66)
    parts.append(line(x_of(index), TOP + BAR, x_of(index), end))
    parts.append(text(x_of(index), end + 12, "one weight, its gradient, its state: one index", "small middle soft"))
    words = "Dashed: zeros, up to the next multiple of 64 bytes or where another model's weights are."
    parts += [text(LEFT, end + 36, words, "soft"), text(LEFT, end + 51, "Numbers are offsets, in floats.", "soft")]
    return document(width, end + 60, TITLE, parts)
