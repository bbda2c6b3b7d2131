"""Models for other software, and from it: PyTorch, ONNX, scikit-learn. Each is imported when it is used."""

from gpumlp.interop.onnx_layers import to_onnx
from gpumlp.interop.scikit_learn import from_sklearn, to_sklearn
from gpumlp.interop.torch_modules import from_torch, to_torch, torch_module
from gpumlp.naming import listing

__all__ = ["from_sklearn", "from_torch", "to_onnx", "to_sklearn", "to_torch", "torch_module"]
__dir__ = listing(__name__)
