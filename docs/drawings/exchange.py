"""Draw the whole-fit kernel's exchange (kernels/exchange.cuh): a packet, the memory at a moment, and why two halves do.

Three blocks are played as in the timeline; the memory is what they have published by then. Nothing here was measured.
"""

from __future__ import annotations

from drawings.svg import document, line, rect, text
from drawings.timeline import BAR, LANE, Bar, Packets, Work, lanes, played, x_of

TITLE = "The exchange: packets with tags, in two halves of memory, and when they may be written over"
PACE = (1.0, 1.3, 1.1)
PLACES = 2  # of each block in each half
STEPS = (6, 7, 8)
PLAY = tuple(
    work
    for step in STEPS
    for work in (
        Work("forward", f"publish {step}", 62, publishes=str(step)),
        Work("update", f"use {step}", 62, collects=str(step)),
    )
)[:-1]
WIDE, HIGH = 34, 26  # of a packet in memory


def moment(bars: list[list[Bar]]) -> float:
    """Return a time when block 0 waits for the packets of step 7."""
    (wait,) = [bar for bar in bars[0] if bar.kind == "wait" and bar.label == "7"]
    return (wait.begin + wait.end) / 2


def tags_at(time: float, exchanges: dict[str, Packets]) -> dict[int, list[int]]:
    """Return the tags in the halves of even and of odd steps, a number a block; before step 6 were 4 and 5."""
    found = {0: [4] * len(PACE), 1: [5] * len(PACE)}
    for step in STEPS:
        for block, sent in enumerate(exchanges[str(step)].sent):
            if sent <= time:
                found[step % 2][block] = step
    return found


def packet(x: float, y: float) -> list[str]:
    """Return a packet, with what is in it."""
    parts = [text(x, y, "A packet", "strong")]
    for i, words in enumerate(("value", "value", "value", "tag")):
        at = x + 56 * i
        parts += [
            rect("loss" if words == "tag" else "forward", at, y + 10, 55, HIGH),
            text(at + 27.5, y + 27, words, "in"),
        ]
        parts.append(text(at, y + 48, str(4 * i), "small soft"))
    parts.append(text(x + 224, y + 48, "16 bytes", "small soft"))
    parts.append(text(x + 244, y + 21, "Memory moves it as one: who sees the tag"))
    parts.append(text(x + 244, y + 36, "of this step has its three values too."))
    return parts


def memory(tags: dict[int, list[int]], x: float, y: float) -> list[str]:
    """Return both halves, each with the places of all blocks, and the tags that stand there."""
    parts = [text(x, y, "Memory, while block 0 collects in step 7: the tags", "strong")]
    step = PLACES * (WIDE + 1) + 8
    for block in range(len(PACE)):
        parts.append(text(x + 72 + step * block + PLACES * WIDE / 2, y + 20, f"of block {block}", "middle soft"))
    said = {
        0: "Written over in step 8: once all have published 7,|and so have read 6.",
        1: "Block 1 is late. Tag 5 is an old one:|its places are read again.",
    }
    for row, (half, name) in enumerate(((1, "odd steps"), (0, "even steps"))):
        at = y + 28 + (HIGH + 12) * row
        parts.append(text(x, at + 17, name))
        for block, tag in enumerate(tags[half]):
            for i in range(PLACES):
                left = x + 72 + step * block + (WIDE + 1) * i
                kind = "old" if tag < 6 else "loss"
                parts += [rect(kind, left, at, WIDE, HIGH), text(left + WIDE / 2, at + 17, str(tag), "in")]
        for i, words in enumerate(said[half].split("|")):
            parts.append(text(x + 76 + step * len(PACE), at + 10 + 14 * i, words))
    return parts


def drawn() -> str:
    """Return the drawing."""
    bars, exchanges = played(PLAY, PACE)
    at, top = moment(bars), 258
    bottom = top + LANE * (len(PACE) - 1) + BAR
    parts = [*packet(8, 18), *memory(tags_at(at, exchanges), 8, 96)]
    parts.append(text(8, top - 26, "Who waits for whom", "strong"))
    parts += lanes(bars, exchanges, top)
    parts += [
        line(x_of(at), top - 12, x_of(at), bottom + 10, "line dashed"),
        text(x_of(at), top - 16, "the memory above", "middle soft"),
    ]
    width = x_of(max(bar.end for row in bars for bar in row)) + 12
    return document(max(width, 660), bottom + 20, TITLE, parts)
