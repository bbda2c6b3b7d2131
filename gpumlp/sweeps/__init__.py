"""Sweeps: candidates of a model, each trained and judged over folds of the data, by whatever workers there are."""

from gpumlp.naming import listing
from gpumlp.sweeps.result import Failure, SearchResult
from gpumlp.sweeps.searching import search

__all__ = ["Failure", "SearchResult", "search"]
__dir__ = listing(__name__)
