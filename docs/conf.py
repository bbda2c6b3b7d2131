"""The documentation's settings: `make docs` builds it into build/docs, and any warning is an error.

Sphinx with MyST: pages are Markdown, as the rest of the project is, and what runs on them is run while they are built
(myst-nb). numpydoc reads the docstrings, sphinx-design has cards and tabs, furo is a theme that is read on a phone and
in the dark. Everything on a page that could become wrong is made from the source: code is executed or included, tables
are written by benchmarks/tables.py, and CONTRIBUTING.md and kernels/README.md are shown as they stand.
"""

import importlib
import inspect
import logging
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import timeline

import gpumlp

HERE = Path(__file__).parent
ROOT = HERE.parent
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")  # for the processes that run their code
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

# The public modules: those that the reference lists.
INDEX = (HERE / "reference" / "index.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^   (gpumlp[\w.]*)$", INDEX, re.MULTILINE)


def public(modules: list[str]) -> dict[str, dict[str, list[str]]]:
    """Return each module's public names: "names" has all, "functions" these, "classes" those that are described there.

    A class that several modules have is described once, in the most special of them.
    """
    found: dict[str, dict[str, list[str]]] = {}
    seen: set[type] = set()
    for module in sorted(modules, key=lambda path: -path.count(".")):
        home = importlib.import_module(module)
        things = {name: getattr(home, name) for name in getattr(home, "__all__", None) or dir(home) if name[0] != "_"}
        own = {n: t for n, t in things.items() if callable(t) and getattr(t, "__module__", "").startswith("gpumlp")}
        classes = {name: thing for name, thing in own.items() if inspect.isclass(thing)}
        found[module] = {
            "names": sorted(own),
            "functions": sorted(own.keys() - classes.keys()),
            "classes": sorted(name for name, thing in classes.items() if thing not in seen),
        }
        seen.update(classes.values())
    return found


# Bases whose members stand with them, and not again with each subclass.
FAMILIES = "Layer Loss Metric Optimizer Callback Initializer Constraint Regularizer LearningRateSchedule".split()


def in_family(app, what: str, name: str, value: object, skip: bool, options) -> bool | None:
    """Leave out a method that the base's entry has said to be there, and what another package's class brings."""
    if what == "class" and not (getattr(value, "__module__", None) or "gpumlp").startswith("gpumlp"):
        return True
    owner = getattr(value, "__qualname__", "").rpartition(".")[0]
    kind = getattr(sys.modules.get(getattr(value, "__module__", None) or ""), owner, None)
    bases = kind.__mro__[1:] if what == "class" and inspect.isclass(kind) else ()
    return True if any(base.__name__ in FAMILIES and hasattr(base, name) for base in bases) else None


autosummary_context = {
    "public": public(MODULES),
    "families": ", ".join([*FAMILIES, "object"]),
}

# Pages that show a file of the repository: links in the file lead to such a page, or to the file, or are plain words.
SHOWN = {
    "CONTRIBUTING.md": "contributing.md",
    "kernels/README.md": "kernels.md",
    "kernels/RESOURCES.md": "resources.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def lead(app, path: Path, page: str, content: list[str]) -> None:
    """Make the links of an included file lead to where they lead in the repository."""

    def to(match: re.Match[str]) -> str:
        target = ((HERE / path).parent / match[2]).resolve()
        if target.is_dir():
            return match[1]
        name = target.relative_to(ROOT).as_posix()
        return f"[{match[1]}]({SHOWN.get(name, f'../{name}')}{match[3] or ''})"

    content[0] = LINK.sub(to, content[0])


def plain(app, what: str, name: str, value: object, options, lines: list[str]) -> None:
    """Have the asterisk of a shape, as in (samples, *features), and of ``**more`` be no emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")) and "`" not in line:
            lines[i] = re.sub(r"(?<![\w*])(\*{1,2})(?=\w)", lambda stars: "\\*" * len(stars[1]), line)


def setup(app) -> None:
    """Draw what is drawn, and have included files read as above."""
    app.connect("builder-inited", lambda app: timeline.write(HERE / "generated" / "timeline.svg"))
    app.connect("include-read", lead)
    app.connect("autodoc-skip-member", in_family)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before numpydoc
