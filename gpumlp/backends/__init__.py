"""Backends: one class per kernel family, all with the contract of `gpumlp.backends.numpy_backend.NumpyBackend`."""
