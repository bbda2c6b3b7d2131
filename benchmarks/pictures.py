"""Draw README's pictures of speed from the committed rows, or check that they are theirs.

``python benchmarks/pictures.py`` writes ``speed.png`` and ``speed_gpu.png`` into ``examples/plots``, for which it needs
matplotlib. With ``--check`` it draws nothing, needs no package, and fails where a picture is of other rows, or by
another program than this: it has the digest of both in it.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from pathlib import Path

import rows

ROOT = Path(__file__).parents[1]
PLOTS = ROOT / "examples" / "plots"
ROWS, GPU_ROWS = rows.RESULTS / "cpu_jobs.csv", rows.RESULTS / "gpu_training.csv"
KEY = "gpumlp:made-of"
SETS = {"avx512": "with AVX-512", "avx2": "everybody held to AVX2"}
# how the names of a peer's contenders begin; its mark
PEERS = {
    "JAX": ("JAX, lax.scan", "o"), "Keras on JAX": ("Keras", "^"), "PyTorch": ("PyTorch", "s"),
    "scikit-learn": ("scikit-learn", "D"),
}  # fmt: skip


# of a GPU's picture, from the fastest on: a name, and how the names of its contenders begin
ON_GPU = {
    "gpumlp": "gpumlp", "gpumlp, as graphs": "gpumlp, graphs", "JAX, lax.scan": "JAX, lax.scan",
    "PyTorch, Inductor": "PyTorch, Inductor", "PyTorch, CUDA graphs": "PyTorch, CUDA graph", "Keras on JAX": "Keras",
    "PyTorch, eager": "PyTorch eager",
}  # fmt: skip


def made_of(drawn: list[rows.Row]) -> str:
    """Return a digest of the rows that are drawn, and of this program."""
    text = [repr(row) for row in drawn] + [Path(__file__).read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def found() -> list[rows.Row]:
    """Return the rows of whole jobs' times."""
    return [r for r in rows.read(ROWS) if r.unit == "s" and r.instructions in SETS]


def found_on_gpu() -> list[rows.Row]:
    """Return the rows of training steps on a GPU."""
    return [r for r in rows.read(GPU_ROWS) if r.unit == "us per step" and r.median == r.median]


def network(row: rows.Row) -> str:
    """Return a job's network and batch."""
    return row.workload.rsplit(": ", 1)[0]


def length(row: rows.Row) -> str:
    """Return a job's nominal seconds: what its steps take the fastest peer."""
    return row.workload.rsplit(": ", 1)[1].split(",")[0]


def times(job: list[rows.Row]) -> list[float]:
    """Return how many times as long as gpumlp each peer takes, by the fastest of its ways; NaN: not measured."""
    ratios = [[r.ratio for r in job if r.contender.startswith(begin)] for begin, _ in PEERS.values()]
    return [min(those, default=math.nan) for those in ratios]


def fastest(group: list[rows.Row], begin: str) -> float:
    """Return the least time of the contenders whose names begin so; gpumlp's is what it takes by itself."""
    ours = [r.median for r in group if r.contender == begin]
    return ours[0] if ours else min((r.median for r in group if r.contender.startswith(begin)), default=math.nan)


def draw_on_gpu(picture: Path) -> None:
    """Draw everybody's microseconds a step on a GPU, by the fastest of their ways: a panel a network."""
    from matplotlib import pyplot, ticker

    from gpumlp.plotting import style

    groups: dict[str, list[rows.Row]] = {}
    for r in found_on_gpu():
        groups.setdefault(r.workload.partition(":")[0], []).append(r)  # a compiler's steps are a suite of their own
    with style.panels(None, len(groups), size=(4.4, 2.9)) as panels:
        for axes, (name, group) in zip(panels, groups.items(), strict=True):
            times = [fastest(group, begin) for begin in ON_GPU.values()]
            places = range(len(times))
            ours = [style.COLOURS[0] if one.startswith("gpumlp") else style.SOFT for one in ON_GPU]
            axes.barh(places, times, color=ours, height=0.62)
            for place, time in zip(places, times, strict=True):
                axes.text(
                    time * 1.08,
                    place,
                    f"{time:.3g}" if time < 1000 else f"{time:.0f}",
                    verticalalignment="center",
                    fontsize=style.SMALL,
                )
            axes.set(xscale="log", xlim=(5, 5000), ylim=(len(times) - 0.5, -0.5), title=name)
            axes.set_xlabel("us per training step on an H100")
            axes.xaxis.set_major_locator(ticker.FixedLocator([10, 100, 1000]))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(ticker.NullLocator())
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            axes.set_yticks(places, list(ON_GPU) if axes is panels[0] else [""] * len(times))
        pyplot.savefig(picture, metadata={KEY: made_of(found_on_gpu())})


def draw(picture: Path) -> None:
    """Draw how long each peer takes for a job, in gpumlp's times: a panel an instruction set, a row a job."""
    from matplotlib import pyplot, ticker

    from gpumlp.plotting import style

    groups: dict[str, dict[str, list[rows.Row]]] = {}
    for r in found():
        groups.setdefault(network(r), {}).setdefault(length(r), []).append(r)
    jobs = [(f"{name}:  {of}" if not i else of, job) for name, all_of in groups.items()
            for i, (of, job) in enumerate(all_of.items())]  # fmt: skip
    middles = [1.2 * i + 0.5 * sum(":" in name for name, _ in jobs[: i + 1]) for i in range(len(jobs))]
    lanes = [0.27 * (place - (len(PEERS) - 1) / 2) for place in range(len(PEERS))]
    with style.panels(None, len(SETS), size=(4.7, 5.4)) as panels:
        for axes, (instructions, words) in zip(panels, SETS.items(), strict=True):
            of_all = [times([r for r in job if r.instructions == instructions]) for _, job in jobs]
            for place, (name, (_, mark)) in enumerate(PEERS.items()):
                ratios = [of_job[place] for of_job in of_all]
                at = [middle + lanes[place] for middle in middles]
                colour = style.COLOURS[place]
                axes.hlines(at, 1.0, ratios, color=colour, linewidth=1.4)
                axes.plot(ratios, at, mark, color=colour, markersize=5, label=name)
            axes.axvline(1.0, color=style.INK, linewidth=1.2)
            axes.set(xscale="log", xlim=(0.75, 30), ylim=(middles[-1] + 0.8, middles[0] - 0.8), title=words)
            axes.set_xlabel("time from compile to the end of fit, gpumlp = 1")
            axes.xaxis.set_major_locator(ticker.FixedLocator([1, 2, 5, 10, 20]))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(ticker.NullLocator())
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            axes.set_yticks(middles, [name if axes is panels[0] else "" for name, _ in jobs])
        handles, names = panels[0].get_legend_handles_labels()
        panels[0].figure.legend(handles, names, loc="outside upper right", ncols=len(names))
        key = "network, batch: what its steps take the fastest peer"
        panels[0].figure.text(0.01, 0.985, key, color=style.SOFT, fontsize=style.SMALL, verticalalignment="top")
        pyplot.savefig(picture, metadata={KEY: made_of(found())})


PICTURES = {"speed.png": (draw, found), "speed_gpu.png": (draw_on_gpu, found_on_gpu)}


def main() -> int:
    """Draw or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--check", action="store_true", help="draw nothing; exit with 1 where the picture is of others")
    check = parser.parse_args().check
    PLOTS.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT))
    for name, (make, of) in PICTURES.items():
        picture = PLOTS / name
        if not check:
            make(picture)
        elif not picture.exists() or f"{KEY}\0{made_of(of())}".encode() not in picture.read_bytes():
            print(f"{picture.relative_to(ROOT)} is not of benchmarks/results/: run make pictures.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
