"""The documentation without Sphinx, which `make docs` has: the code on its pages runs, and what helps it is right.

A page with ``{code-cell}`` is a notebook as text: Sphinx runs it while it builds the pages, and these tests run the
same cells, warnings as errors.
"""

import inspect
import json
import re
import sys
import types
import warnings
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from host.runtime import DeviceArray, HostRuntime, aligned_copy

import gpumlp

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import look
import notebooks
import pages
import shown
from drawings import arena, exchange, timeline

sys.path.pop(0)
DOCS = Path(__file__).parents[1] / "docs"

FENCE = re.compile(r"^```(\S+)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = sorted(DOCS.rglob("*.md"))
ON_A_GPU = DOCS / "guides" / "gpu.md"
NOTEBOOKS = [page for page in PAGES if "{code-cell}" in page.read_text(encoding="utf-8")]


def run(page):
    """Run a page's cells, one after the other, as the notebook does; return the names that they leave."""
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gpumlp.config.set_advice", UserWarning)  # advice, which the page shows
        for number, cell in enumerate(CELL.findall(page.read_text(encoding="utf-8")), 1):
            exec(compile(cell, f"{named(page)}, cell {number}", "exec"), names)
    return names


def named(page):
    return page.relative_to(DOCS).as_posix()


def test_the_code_of_the_readme_runs_and_fits(monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    gpumlp.utils.set_random_seed(0)
    names = {"__name__": "__main__"}
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language == "python":
            exec(compile(block, "README", "exec"), names)
    x = names["x"]
    assert np.mean((names["prediction"][:, 0] - np.sin(x + 0.05)) ** 2) < 0.01
    off = abs(names["mean"] - np.sin(x))
    assert off.max() < 0.1 and np.mean(off <= 2 * names["spread"]) > 0.8


@pytest.mark.parametrize("page", NOTEBOOKS, ids=named)
def test_the_code_on_a_page_runs(page, tmp_path, monkeypatch, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    try:
        names = run(page)
    finally:
        pyplot.close("all")
    if (expected := EXPECTED.get(named(page))) is not None:
        assert expected(names, capsys.readouterr().out)


# What a page tells its reader, where its words would be wrong otherwise.
EXPECTED = {
    "start.md": lambda names, out: out.splitlines()[-1] == "True",
    "tutorial.md": lambda names, out: (
        names["error"] < 1e-3
        and names["small"].evaluate(names["between"], np.sin(names["between"]), verbose=0) < 1e-3
        and out.splitlines()[-1] == "True"
    ),
    "guides/callbacks.md": lambda names, out: len(names["history"].epoch) < 1000 and names["rate"] < 0.01,
    "guides/data.md": lambda names, out: names["accuracy"] > 0.9 and "100" in out.splitlines()[-1],
    "guides/saving.md": lambda names, out: out.splitlines()[0] == "True" and "best.gpumlp" in out,
    "guides/own.md": lambda names, out: 0.05 < names["history"].history["above"][-1] < 0.15 and names["spread"] < 0.4,
    "guides/ensembles.md": lambda names, out: (
        10 * names["inside"] < names["outside"]
        and max(names["each"]) < 0.01
        and not names["ensemble"].members[0]._runner.advised
    ),
    "guides/gradients.md": lambda names, out: np.allclose(
        names["model"].jacobian(names["at"])[0, 0], [np.cos(0.5) * 1.5, np.sin(0.5)], atol=0.1
    ),
    "guides/trouble.md": lambda names, out: (
        "Normalization" in out and 100 * names["better"] < np.var(names["y"]) and names["loss"] < 0.1
    ),
    "guides/sklearn.md": lambda names, out: names["search"].best_score_ > 0.9 and out.splitlines()[-1].endswith("True"),
    "kernel.md": lambda names, out: "13 exchanges" in out and "off by at most" in out,
}


def test_every_notebook_is_run_and_what_is_expected_names_a_page():
    assert len(NOTEBOOKS) >= 9
    assert EXPECTED.keys() <= {named(page) for page in NOTEBOOKS}


def test_the_code_of_the_gpu_s_page_runs(as_gpu, monkeypatch, tmp_path, capsys):
    """With the host in the GPU's place, and a CuPy that has what the page calls."""
    random = np.random.default_rng(0)
    cupy = types.SimpleNamespace(
        asarray=aligned_copy,
        asnumpy=np.array,
        sin=lambda a: aligned_copy(np.sin(a)),
        random=types.SimpleNamespace(
            uniform=lambda low, high, size, dtype: aligned_copy(random.uniform(low, high, size).astype(dtype))
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.chdir(tmp_path)
    as_gpu(HostRuntime())
    names = {"__name__": "__main__"}
    for language, block in FENCE.findall(ON_A_GPU.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, named(ON_A_GPU), "exec"), names)
    device, program, same, more = capsys.readouterr().out.splitlines()
    assert "cuda:0" in device and "one launch" in program and same == "True" and int(more) == 20
    assert isinstance(names["there"], DeviceArray) and type(names["here"]) is np.ndarray
    assert str(names["again"].device).startswith("<Device cpu, ")


def test_a_notebook_to_take_along_has_nothing_that_only_sphinx_reads(tmp_path):
    for page in NOTEBOOKS:
        text = page.read_text(encoding="utf-8")
        if "{nb-download}" in text:
            words = notebooks.plain(CELL.sub("", text))
            assert not re.search(r"\{[\w:-]+\}|:::|\.md\b|notebook:", words), named(page)
    path = tmp_path / "_downloads" / "0" / "a.ipynb"
    path.parent.mkdir(parents=True)
    words = ["# A\n", "As a notebook: {nb-download}`a.ipynb`. And\n", "{py:mod}`~a.b`, [c](d.md)"]
    cells = [{"cell_type": "markdown", "source": words}, {"cell_type": "code", "source": ["x = [1](2)"]}]
    path.write_text(json.dumps({"cells": cells}))
    notebooks.clean(tmp_path)
    found = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert found == ["# A\nAnd\n`a.b`, c", "x = [1](2)"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_python_on_a_page_is_left_to_rot(page):
    """Python stands in cells, which are run, or is included from files; commands are for the console."""
    text = page.read_text(encoding="utf-8")
    kinds = {kind for kind, _ in FENCE.findall(text)} - ({"python"} if page == ON_A_GPU else set())
    assert kinds <= {"{code-cell}", "{literalinclude}", "{include}", "{toctree}", "{eval-rst}", "{raw}", "console"}
    assert text.count("{code-cell}") == len(CELL.findall(text))


def test_a_page_that_is_included_from_elsewhere_is_there():
    for page in PAGES:
        for file in re.findall(r"\{(?:literal)?include\} (\S+)", page.read_text(encoding="utf-8")):
            assert (page.parent / file).is_file(), f"{named(page)}: {file}"


def test_the_reference_has_every_public_module():
    listed = re.findall(
        r"^   (gpumlp[\w.]*)$", (DOCS / "reference" / "index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    modules = {f"gpumlp.{name}" for name in gpumlp.__all__ if inspect.ismodule(getattr(gpumlp, name))}
    assert {
        "gpumlp",
        "gpumlp.optimizers.schedules",
        "gpumlp.interop",
        "gpumlp.sklearn",
        "gpumlp.sweeps",
        "gpumlp.errors",
        *modules,
    } == set(listed)


def test_the_reference_has_words_for_every_name_and_bases_that_can_be_named():
    tables = shown.tables()
    assert all(row.words for table in tables.values() for row in table.rows)
    words = {row.name: row.words for row in tables["gpumlp.layers"].rows}
    assert words["Input"] == "The same as `InputLayer`." and words["ELU"].startswith("x for x > 0")
    assert {row.name: row.target for row in tables["gpumlp"].rows}["Sequential"] == "gpumlp.models.Sequential"
    assert shown.bases(gpumlp.layers.GaussianNoise) == [gpumlp.layers.Layer]
    assert shown.bases(gpumlp.initializers.HeNormal) == [gpumlp.initializers.VarianceScaling]
    assert shown.bases(gpumlp.layers.Layer) == []
    assert not any(base.__name__[0] == "_" for kind in shown.homes() for base in shown.bases(kind))


def test_a_method_is_shown_where_it_is_a_person_s_and_no_base_has_it():
    assert shown.members(gpumlp.optimizers.Adam) == []
    assert shown.members(gpumlp.callbacks.ReduceLROnPlateau) == ["in_cooldown"]
    methods = shown.members(gpumlp.optimizers.Optimizer)
    assert "apply" in methods and "update_each" not in methods


def test_what_pages_draw_looks_like_the_packages_plots(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    from gpumlp.plotting import style

    look.write(tmp_path / "matplotlibrc")
    settings = matplotlib.rc_params_from_file(tmp_path / "matplotlibrc")
    with matplotlib.rc_context(style.STYLE):
        assert {name: settings[name] for name in style.STYLE} == {
            name: matplotlib.rcParams[name] for name in style.STYLE
        }
    assert settings["axes.prop_cycle"].by_key()["color"] == list(style.COLOURS)
    assert settings["ytick.labelcolor"] == style.SOFT and settings["xtick.major.size"] == style.TICKS["length"]


# ---- the drawings


def test_nobody_goes_on_before_all_have_published():
    bars, exchanges = timeline.played()
    for work in timeline.STEP:
        if work.collects:
            sent, got = exchanges[work.collects]
            assert len(got) == timeline.BLOCKS == len(sent)
            assert min(got) >= max(sent) + timeline.TRIP
    for row in bars:  # one thing after the other, without gaps
        assert all(a.end == b.begin for a, b in pairwise(row))
    assert any(bar.kind == "wait" for row in bars for bar in row)


def test_the_drawing_has_the_exchanges_of_the_plan():
    """As many as fit_plan counts for such a network: three hidden layers, and a last one that all compute."""
    from types import SimpleNamespace

    from gpumlp import layers, losses, optimizers
    from gpumlp.engine import fit_plan
    from gpumlp.engine.arena import alone
    from gpumlp.engine.network import describe

    network = describe([*(layers.Dense(256, "relu") for _ in range(3)), layers.Dense(1)], (1,))
    arena, mse = alone(network.weights, "float32"), losses.described("mse")
    problem = fit_plan.problem_of(network, arena, 20, mse, [], optimizers.Adam(), 1, False)
    plan = fit_plan.best_plan(problem, SimpleNamespace(arch="sm_90", multiprocessors=132, shared_bytes=227 << 10), True)
    collected = [work.collects for work in timeline.STEP if work.collects]
    assert len(collected) == plan.exchanges


def test_the_exchange_as_drawn_writes_over_what_all_have_read():
    bars, exchanges = timeline.played(exchange.PLAY, exchange.PACE)
    assert min(exchanges["8"].sent) > max(exchanges["6"].got)
    assert exchange.tags_at(exchange.moment(bars), exchanges) == {0: [6, 6, 6], 1: [7, 5, 7]}


def test_the_arena_as_drawn_is_full_and_one_model_has_a_gap():
    made, stacks = arena.built()
    found = arena.pieces(stacks)
    assert len(found) == 8 and found[0].begin == 0 and found[-1].next == made.ends[-1]
    assert all(a.next == b.begin and a.next % 16 == 0 for a, b in pairwise(found))
    gaps = {}
    for name, stack in stacks.items():
        own = [piece for piece in found if piece.layer in {layer.name for layer in stack}]
        gaps[name] = sum(a.next < b.begin for a, b in pairwise(own))
    assert gaps == {"model A": 1, "model B": 0}


@pytest.mark.parametrize("drawing", [arena, exchange, timeline])
def test_a_drawing_is_whole(drawing):
    root = ElementTree.fromstring(drawing.drawn())
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [e for e in root.iter() if e.tag.endswith("rect")]
    assert len(boxes) > 20
    for box in boxes:
        x, y, wide, high = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x and x + wide <= width and 0 <= y and y + high <= height and wide > 0 and high > 0
    for words in (e for e in root.iter() if e.tag.endswith("text")):
        assert 0 < float(words.attrib["x"]) < width and 0 < float(words.attrib["y"]) < height


# ---- the pages that are built


def page(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_links_that_lead_nowhere_are_found(tmp_path):
    page(tmp_path, "a.html", '<h1 id="top-of-a">a</h1><a href="b/">b</a><a href="b/index.html#part">c</a>')
    page(tmp_path, "b/index.html", '<p id="part"><a href="../a.html#top-of-a">a</a><a href="#">top</a>')
    page(tmp_path, "c.html", '<a href="https://example.org/x">away</a><a href="mailto:a@example.org">post</a>')
    assert pages.broken(tmp_path) == []
    page(
        tmp_path, "d.html", '<a href="e.html">e</a><a href="a.html#no">a</a><img src="p.png"><a href="../x.html">x</a>'
    )
    assert pages.broken(tmp_path) == [f"d.html: {to}" for to in ("e.html", "a.html#no", "p.png", "../x.html")]


def test_lines_longer_than_their_box_are_found(tmp_path):
    line = "x" * pages.COLUMNS
    page(tmp_path, "a.html", f"<p>{line}y</p><div><pre><span>{line}</span>\n</pre></div><p>{line}y</p>")
    page(tmp_path, "b.html", f'<div class="docutils cell_output"><div><pre>{line}y</pre></div></div>')
    page(tmp_path, "c.html", f'<div class="source highlight-cuda"><pre>{line}y</pre></div>')
    assert pages.wide(tmp_path) == []
    page(
        tmp_path,
        "d.html",
        f'<div class="source"><pre></pre></div><div class="cell"><pre>\n<b>{line}</b>y\n</pre></div>',
    )
    assert pages.wide(tmp_path) == [f"d.html: {line}y"]
