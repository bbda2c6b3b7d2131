"""Look whether every link within the built documentation leads somewhere: pages, their parts, pictures and styles.

``python docs/links.py build/docs`` prints those that do not, and exits with 1. Links to other sites are not followed.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page has to be linked to, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's anchors and links."""
        found = {name: value for name, value in attrs if value is not None}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag != "meta":
            self.links += [found[name] for name in ("href", "src", "data-src") if name in found]


def broken(folder: Path) -> list[str]:
    """Return a line for each link in the pages of ``folder`` that leads nowhere."""
    folder = folder.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
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
    """Print what is broken; return the exit status."""
    folder = Path(sys.argv[1])
    lines = broken(folder)
    print("\n".join(lines) or f"All links within {folder} lead somewhere.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
