"""The house's arrows: which part may import which, read from the sources; and what `import gpumlp` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import gpumlp

ROOT = Path(gpumlp.__file__).parent
# from the top down; a part may import its own and lower floors
FLOORS = [
    {"__init__", "__main__", "cli"},
    {"sklearn", "sweeps"},
    {"ensemble", "interop"},
    {"members"},
    {"models", "summary", "callbacks", "check", "utils", "plotting"},
    {"training", "workers"},
    {"engine"},
    {"backends", "devices", "distributed"},
    {"layers", "metrics"},
    {"losses", "optimizers", "initializers", "regularizers", "activations", "constraints"},
    {"objectives"},
    {"ops", "arrays", "columns", "formulas", "expressions", "derivatives", "lowering", "tape"},
    {
        "naming",
        "variables",
        "config",
        "random",
        "erf",
        "kernel_sources",
        "errors",
        "saving",
        "attributes",
        "gate",
        "candidates",
        "missing",
        "keras_names",
        "literals",
        "maps",
        "signatures",
    },
]


def floor(part):
    return next(i for i, parts in enumerate(FLOORS) if part in parts)


def test_no_arrow_goes_back():
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gpumlp":
                below = node.module.split(".")[1:2] or [a.name for a in node.names]
            else:
                continue
            for name in below:
                assert floor(name) >= floor(part), f"{path} imports {name}, which is above it"


def test_what_is_imported_when_it_is_asked_for():
    code = "import gpumlp, sys; print('gpumlp.interop' in sys.modules, gpumlp.interop.to_onnx, gpumlp.check.summary)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("False <function to_onnx")


def test_importing_needs_numpy_alone():
    others = ("cupy", "numba", "cuda", "matplotlib", "scipy", "safetensors", "h5py", "torch", "onnx", "sklearn")
    code = f"import sys, gpumlp; print([m for m in {others} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
