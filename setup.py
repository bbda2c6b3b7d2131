"""Metadata is in pyproject.toml; what stands here is the packages."""

from setuptools import find_packages, setup

setup(packages=find_packages(include=["gpumlp", "gpumlp.*"]))
