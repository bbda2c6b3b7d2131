"""What there is to compile for an architecture, as JSON: ``python benchmarks/kernel_texts.py sm_90``.

The file, the variant's name and the text of every kernel that launches are made of, and of the whole-fit kernel for the
cases of fit_cases.py. machine_code.py runs it in folders that may hold another commit: it relies on little.
"""

from __future__ import annotations

import json
import sys

import fit_cases
import resources
from variants import variants

from gpumlp.backends.compiler import text_of


def texts(arch: str) -> list[tuple[str, str, str]]:
    """Return (file, variant, text) of everything; of the whole-fit kernel, what an architecture like sm_90 launches."""
    found = [(file, resources.variant_name(file, defines), text_of(file, defines)) for file, defines in variants()]
    for case in fit_cases.CASES:
        if case[1] == arch:
            fit, defines = resources.planned(case)
            if defines:
                found.append(("fit.cu", f"{fit.network}, {fit.exchange}", text_of("fit.cu", defines)))
    return found


if __name__ == "__main__":
    json.dump(texts(sys.argv[1]), sys.stdout)
