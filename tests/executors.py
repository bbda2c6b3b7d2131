"""Fixtures: executors, whose workers are threads, or processes that begin in each way there is."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest


@pytest.fixture(scope="module", params=["forkserver", "spawn"])
def processes(request):
    if request.param not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{request.param} is not there")
    with ProcessPoolExecutor(2, multiprocessing.get_context(request.param)) as executor:
        yield executor


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def mortal():
    """Processes that a test may kill."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor
