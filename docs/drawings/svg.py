"""What the drawings are made of: SVG whose colours follow the page's, light or dark."""

from __future__ import annotations

STYLE = """
  text { font: 11px system-ui, sans-serif; fill: var(--color-foreground-primary, #222); }
  text.in { fill: #111; text-anchor: middle; } text.small { font-size: 9.5px; }
  text.middle { text-anchor: middle; } text.end { text-anchor: end; } text.strong { font-weight: 600; }
  text.soft { fill: var(--color-foreground-secondary, #666); }
  .forward { fill: #8ecae6; } .loss { fill: #ffd166; } .backward { fill: #f4a6b7; } .update { fill: #b7d99b; }
  .fetch { fill: #cfc7ee; } .old { fill: #d5d9de; } .pale { opacity: 0.55; }
  .wait { fill: none; stroke: var(--color-foreground-muted, #888); stroke-dasharray: 3 3; }
  .line { stroke: var(--color-foreground-secondary, #666); stroke-width: 1; opacity: 0.75; fill: none; }
  .thick { stroke: var(--color-foreground-primary, #222); stroke-width: 3; fill: none; }
  .dashed { stroke-dasharray: 3 3; }
  .dot { fill: var(--color-foreground-secondary, #666); }
"""


def rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    """Return a box of a kind, which says its colour."""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Return words; ``y`` is the line that they stand on."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{words}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "line") -> str:
    """Return a line."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}"/>'


def led(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line that leads to its end, where a dot is."""
    return line(x1, y1, x2, y2) + f'<circle class="dot" cx="{x2:.1f}" cy="{y2:.1f}" r="2"/>'


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """Return a drawing."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{title}">\n<title>{title}</title>\n<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
