"""Draw the whole-fit kernel's timeline (kernels/fit_block.cuh): who computes, who waits for what, in one training step.

Three blocks train a network of three hidden layers and a small last one, by tags. Each does what it has to do in the
kernel's order, and a wait ends when the last packet has come: so the waits are found, not drawn. How long the work
takes is made up, a little different for each block; nothing here was measured.
"""

from __future__ import annotations

from typing import NamedTuple

from drawings.svg import document, led, rect, text

TITLE = "One step of the whole-fit kernel on three blocks: what each computes, and when it waits for whom"
BLOCKS = 3
TRIP = 26  # from a packet's publication until whoever polls for it has it
PACE = (1.0, 1.16, 0.92)  # of each block's work
LEFT, TOP, BAR, LANE, SCALE = 62, 76, 30, 66, 1.05
COLUMN = 230  # of the legend, which has three


class Work(NamedTuple):
    """A piece of a step: ``publishes`` an exchange's packets at its end, or first ``collects`` one from all blocks."""

    kind: str
    label: str
    length: float
    publishes: str = ""
    collects: str = ""


# What a block does, in the order of Block::run: forward, objective, backward. An update comes before the gradient from
# above is collected, and so hides the wait for it.
STEP = (
    Work("forward", "y1", 30, publishes="y1"),
    Work("fetch", "next x", 40),
    Work("forward", "y2", 38, publishes="y2", collects="y1"),
    Work("forward", "y3", 38, publishes="y3", collects="y2"),
    Work("loss", "y4, loss", 52, collects="y3"),
    Work("backward", "dy3", 26, publishes="dy3"),
    Work("update", "w4", 26),
    Work("backward", "dy2", 38, publishes="dy2", collects="dy3"),
    Work("update", "w3", 52),
    Work("backward", "dy1", 38, collects="dy2"),
    Work("update", "w2", 52),
    Work("update", "w1", 26),
    Work("forward", "y1", 30, publishes="next y1"),
)
EXCHANGES = tuple(work.publishes for work in STEP if work.publishes)


class Bar(NamedTuple):
    """A stretch of a block's time."""

    kind: str
    label: str
    begin: float
    end: float


class Packets(NamedTuple):
    """An exchange: when each block has published its part, and when each has got all."""

    sent: list[float]
    got: list[float]


def played(step: tuple[Work, ...] = STEP, pace: tuple[float, ...] = PACE) -> tuple[list[list[Bar]], dict[str, Packets]]:
    """Return each block's bars, and each exchange."""
    now = [0.0] * len(pace)
    bars: list[list[Bar]] = [[] for _ in pace]
    exchanges: dict[str, Packets] = {}
    for work in step:
        if work.collects:
            packets = exchanges[work.collects]
            for block, begin in enumerate(now):
                now[block] = max(begin, *(sent + TRIP for sent in packets.sent))
                packets.got.append(now[block])
                if now[block] > begin:
                    bars[block].append(Bar("wait", work.collects, begin, now[block]))
        for block, begin in enumerate(now):
            now[block] = begin + work.length * pace[block]
            bars[block].append(Bar(work.kind, work.label, begin, now[block]))
        if work.publishes:
            exchanges[work.publishes] = Packets(list(now), [])
    return bars, exchanges


LEGEND = (
    ("forward", "own outputs"), ("loss", "last layer and loss, in every block"), ("backward", "own gradients"),
    ("update", "own weights: dw and Adam"), ("fetch", "next batch"), ("wait", "waits for packets"),
)  # fmt: skip


def x_of(time: float) -> float:
    """Return where a time stands."""
    return LEFT + SCALE * time


def lanes(bars: list[list[Bar]], exchanges: dict[str, Packets], top: float) -> list[str]:
    """Return the blocks' bars, and lines from who published last to each of the others that waited for it."""
    found = []
    for block, row in enumerate(bars):
        y = top + LANE * block
        found.append(text(8, y + 19, f"block {block}"))
        for bar in row:
            x, wide = x_of(bar.begin), SCALE * (bar.end - bar.begin)
            found.append(rect(bar.kind, x, y, wide - 1, BAR))
            if bar.kind != "wait":
                found.append(text(x + wide / 2, y + 19, bar.label, "in"))
    for packets in exchanges.values():
        last = packets.sent.index(max(packets.sent))
        for block, got in enumerate(packets.got):
            if block != last:
                down = block > last
                ends = top + LANE * last + (BAR if down else 0), top + LANE * block + (0 if down else BAR)
                found.append(led(x_of(packets.sent[last]), ends[0], x_of(got), ends[1]))
    return found


def drawn() -> str:
    """Return the drawing."""
    bars, exchanges = played()
    end = max(bar.end for row in bars for bar in row)
    width, height = x_of(end) + 12, TOP + LANE * BLOCKS + 30
    parts = []
    for i, (kind, words) in enumerate(LEGEND):
        x, y = LEFT + COLUMN * (i % 3), 8 + 24 * (i // 3)
        parts += [rect(kind, x, y, 14, 14), text(x + 20, y + 11, words)]
    parts += lanes(bars, exchanges, TOP)
    loss = min(bar.begin for row in bars for bar in row if bar.kind == "loss")
    for words, time in (("forward", 0.0), ("loss, backward, update", loss), ("next step", bars[0][-1].begin)):
        parts.append(text(x_of(time), height - 14, words))
    return document(width, height, TITLE, parts)
