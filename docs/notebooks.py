"""Pages as notebooks to take along: without what Sphinx alone reads, and links that lead nowhere outside."""

import json
import re
from pathlib import Path

DOWNLOAD = re.compile(r"As a notebook: \{nb-download\}`[^`]*`\. ?")
ROLE = re.compile(r"\{[\w:-]+\}`~?([^`]*)`")
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


def plain(text: str) -> str:
    """Return a page's Markdown as any notebook shows it."""
    return LINK.sub(r"\1", ROLE.sub(r"`\1`", DOWNLOAD.sub("", text)))


def clean(folder: Path) -> None:
    """Make plain all notebooks in the built documentation."""
    for path in folder.glob("_downloads/*/*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = plain("".join(cell["source"])).splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
