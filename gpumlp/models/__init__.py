"""Models: what a person builds, trains and asks."""

from gpumlp.models.sequential import Sequential as Sequential
