"""Devices: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; then the environment's GPUMLP_DEVICE; then auto."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Device:
    """A device and the reason why it was picked."""

    name: str
    reason: str

    def backend(self) -> Any:
        """Return a new backend for this device."""
        from gpumlp.backends.numpy_backend import NumpyBackend

        return NumpyBackend()


NO_KERNELS = (
    "this version of gpumlp has no CUDA kernels yet; everything runs on the CPU with NumPy. "
    "Use device='cpu' or 'auto'. (Versions with kernels need the extra gpumlp[cuda12] or gpumlp[cuda13].)"
)


def resolve(device: str | None = None) -> Device:
    """Return the Device for a name; None means GPUMLP_DEVICE, then ``"auto"``.

    Raises
    ------
    ValueError
        For an unknown name.
    RuntimeError
        For a GPU that cannot be used, with the cause.
    """
    source = "asked for"
    if device is None:
        device = os.environ.get("GPUMLP_DEVICE") or "auto"
        source = "from GPUMLP_DEVICE" if os.environ.get("GPUMLP_DEVICE") else "the default"
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r} ({source}).")
    if device == "cpu":
        return Device("cpu", source)
    if device == "auto":
        return Device("cpu", "auto: this version has no CUDA kernels yet")
    raise RuntimeError(f"device {device!r} ({source}) cannot be used: {NO_KERNELS}")
