"""Ways of working that only a clock on a GPU can judge: built and tested, off until it has.

GPUMLP_TRY names those that are to be used, by commas; ``make gpu`` times each beside the default, and the one that wins
becomes it. None changes what is computed beyond the order of a sum.
"""

from __future__ import annotations

import os

CANDIDATES = {
    "dependent": "kernels of a graph that start while the one before them ends (compute capability 9.0 on)",
}


def chosen() -> frozenset[str]:
    """Return the candidates that GPUMLP_TRY names; ValueError for one that does not exist."""
    names = frozenset(filter(None, (name.strip() for name in os.environ.get("GPUMLP_TRY", "").split(","))))
    if unknown := sorted(names - CANDIDATES.keys()):
        raise ValueError(f"GPUMLP_TRY must name some of {', '.join(CANDIDATES)}; got {', '.join(unknown)}.")
    return names
