"""Look whether every link within the built documentation leads somewhere, and every line of code fits its box.

``python docs/pages.py build/docs`` prints those that do not, and exits with 1. Links to other sites are not followed.
Longer than a box may be what a cell prints, which goes on in the next line, and the source of kernels, which scrolls.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

COLUMNS = 88  # of a box, by static/pages.css, in a browser that is 1280 pixels wide


class Page(HTMLParser):
    """What a page has to be linked to, what it links to, and its code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: list[str] = []
        self.code = ""
        self._within: list[str] = []  # what boxes, by their classes
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's anchors and links."""
        found = {name: value for name, value in attrs if value is not None}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag != "meta":
            self.links += [found[name] for name in ("href", "src", "data-src") if name in found]
        if tag in ("div", "pre"):
            self._within.append(found.get("class", "") if tag == "div" else "code")

    def handle_endtag(self, tag: str) -> None:
        """Leave a box."""
        if tag in ("div", "pre"):
            self._within.pop()

    def handle_data(self, data: str) -> None:
        """Note code."""
        classes = " ".join(self._within).split()
        if "code" in classes and not {"source", "cell_output"} & set(classes):
            self.code += data


def read(folder: Path) -> dict[Path, Page]:
    """Return the pages in a folder."""
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.resolve().rglob("*.html"))}


def wide(folder: Path) -> list[str]:
    """Return the lines of code in the pages of ``folder`` that are longer than a box, each with its page."""
    lines = [(path, line) for path, page in read(folder).items() for line in page.code.splitlines()]
    return [f"{path.relative_to(folder.resolve())}: {line}" for path, line in lines if len(line) > COLUMNS]


def broken(folder: Path) -> list[str]:
    """Return a line for each link in the pages of ``folder`` that leads nowhere."""
    folder, pages, found = folder.resolve(), read(folder), []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file() and target.is_relative_to(folder)
            if not there or (target in pages and unquote(parts.fragment) not in pages[target].anchors):
                found.append(f"{path.relative_to(folder)}: {link}")
    return found


def main() -> int:
    """Print what is broken, and what is too long; return the exit status."""
    folder = Path(sys.argv[1])
    lost, long = broken(folder), wide(folder)
    for heading, lines in (("These lead nowhere:", lost), (f"These lines are longer than {COLUMNS}:", long)):
        if lines:
            print(heading, *lines, sep="\n")
    return 1 if lost or long else 0


if __name__ == "__main__":
    sys.exit(main())
