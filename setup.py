"""Metadata is in pyproject.toml; what stands here is where the packages are.

The kernel sources live in `kernels/`, beside the package; a wheel carries them inside it, as gpumlp/kernels, because
`kernels` is another project's import name.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gpumlp", "gpumlp.*"]), "gpumlp.kernels", "gpumlp.kernels.cpu"],
    package_dir={"gpumlp.kernels": "kernels"},
    package_data={"gpumlp.kernels": ["*"]},
)
