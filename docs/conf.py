"""The documentation's settings: `make docs` builds it into build/docs, and any warning is an error.

Sphinx with MyST: pages are Markdown, as the rest of the project is, and what runs on them is run while they are built
(myst-nb). numpydoc reads the docstrings, sphinx-design has cards and tabs, furo is a theme that is read on a phone and
in the dark. Everything on a page that could become wrong is made from the source: code is executed or included, tables
are written by benchmarks/tables.py, and CONTRIBUTING.md and kernels/README.md are shown as they stand.
"""

import logging
import os
import re
import sys
from itertools import takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import look
import notebooks
import shown
from drawings import arena, exchange, timeline

import gpumlp

HERE = Path(__file__).parent
ROOT = HERE.parent
GENERATED = HERE / "generated"
os.environ["MATPLOTLIBRC"] = str(GENERATED / "matplotlibrc")  # for the processes that run their code
os.environ["IPYTHONDIR"] = str(HERE / "ipython")  # warnings on pages without a path, and kernels that are quiet
logging.getLogger("traitlets").setLevel(logging.WARNING)  # nbclient says of every page that it runs it

project, author, copyright = "gpumlp", "the authors of gpumlp", "the authors of gpumlp"
version = release = gpumlp.__version__
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_design"]
exclude_patterns = ["templates"]
templates_path = ["templates"]
default_role = "py:obj"  # `name` in docstrings

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True  # what cells write is gone afterwards
nb_execution_timeout = 120
nb_execution_raise_on_error = nb_execution_show_tb = True
nb_merge_streams = True

numpydoc_show_class_members = False  # autodoc lists them
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say the types

html_theme = "furo"
html_title = "gpumlp"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = html_copy_source = False

autosummary_context = {"shown": shown.tables()}

# Pages that show a file of the repository: links in the file lead to such a page, or to the file, or are plain words.
SHOWN = {
    "CONTRIBUTING.md": "contributing.md",
    "kernels/README.md": "kernels.md",
    "kernels/RESOURCES.md": "resources.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def prose(source: str) -> str:
    """Return the comment at the head of a kernel's source as Markdown, what is listed in it as a list."""
    head = takewhile(lambda line: line.startswith("//"), source.splitlines())
    lines = [re.sub(r"^ +(\w+) +", r"- **\1**: ", line[2:].removeprefix(" ")) for line in head]
    return "\n".join(re.sub(" {2,}", "; ", line) for line in lines)


def lead(app, path: Path, page: str, content: list[str]) -> None:
    """Make the links of an included file lead to where they lead in the repository; of a kernel take the head."""
    if path.suffix in (".cu", ".cuh"):
        content[0] = prose(content[0])

    def to(match: re.Match[str]) -> str:
        target = ((HERE / path).parent / match[2]).resolve()
        if target.is_dir():
            return match[1]
        name = target.relative_to(ROOT).as_posix()
        return f"[{match[1]}]({SHOWN.get(name, f'../{name}')}{match[3] or ''})"

    content[0] = LINK.sub(to, content[0])


def plain(app, what: str, name: str, value: object, options, lines: list[str]) -> None:
    """Have asterisks in a docstring be no emphasis."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else shown.plain(line) for line in lines]


def named(app, name: str, kind: type, options, bases: list[type]) -> None:
    """Give a class the bases that the reference has."""
    bases[:] = shown.bases(kind)


def generate(app) -> None:
    """Write the files that pages need."""
    look.write(GENERATED / "matplotlibrc")
    for drawing in (arena, exchange, timeline):
        name = drawing.__name__.rpartition(".")[2]
        html = f'<div class="drawing">\n{drawing.drawn()}</div>\n'
        (GENERATED / f"{name}.html").write_text(html, encoding="utf-8")


def finish(app, failure: Exception | None) -> None:
    """Have the notebooks that can be taken along be read anywhere."""
    if failure is None:
        notebooks.clean(Path(app.outdir))


def setup(app) -> None:
    """Draw what is drawn, have included files read as above, and notebooks be plain."""
    app.connect("builder-inited", generate)
    app.connect("include-read", lead)
    app.connect("build-finished", finish)
    app.connect("autodoc-process-bases", named)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before numpydoc
