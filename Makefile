PYTHON ?= python3
VENV := .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)

.PHONY: demo test ptx full lint docs parity dist install-sizes bench tables pictures resources gpu-cache gpu cluster

$(VENV)/.test: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

# NVIDIA's compiler, which there is none of for macOS
NVRTCS := $(if $(filter Darwin,$(shell uname -s)),,.nvrtc/.ready)
.nvrtc/.ready: $(VENV)/.test benchmarks/nvrtcs.py
	$(BIN)/python benchmarks/nvrtcs.py
	touch $@

$(VENV)/.demo: setup.py pyproject.toml
	@echo "Installing gpumlp, and compiling its kernels for the CPU: about a minute, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[plot]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m gpumlp demo

test: $(VENV)/.test $(NVRTCS)
	$(BIN)/python -m pytest

# A script for each engine that trains elsewhere, of those that are installed; a line each.
cluster: $(VENV)/.test
	$(BIN)/python examples/cluster

# Everything that the GPU's tests run, by the PTX of an NVRTC: 12.3.107, 13.0.88 or newest. In minutes.
VERSION ?= 13.0.88
ptx: $(VENV)/.test .nvrtc/.ready
	$(BIN)/python -m pytest -m ptx --nvrtc $(VERSION)

# What the gate has no time for: the long sets.
full: lint test parity dist
	$(MAKE) ptx
	$(MAKE) ptx VERSION=newest
	$(BIN)/python tests/soak.py 120
	$(BIN)/python tests/soak_calls.py 120
	GPUMLP_FUZZ=2000 $(BIN)/python -m pytest tests/test_file_damage.py -k at_random
	$(BIN)/python -W error tests/killed.py 200

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python benchmarks/tables.py --check
	$(BIN)/python benchmarks/pictures.py --check

# The documentation, into build/docs: every warning, every broken link and every line longer than its box is an error.
.venv-docs/.ready: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/$(SCRIPTS)/python -m pip install --quiet --editable '.[docs]'
	touch $@

docs: .venv-docs/.ready
	.venv-docs/$(SCRIPTS)/sphinx-build --fail-on-warning --keep-going --quiet --jobs auto docs build/docs
	.venv-docs/$(SCRIPTS)/python docs/pages.py build/docs

.venv-parity/.ready: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/$(SCRIPTS)/python -m pip install --quiet --editable '.[parity]'
	touch $@

parity: .venv-parity/.ready
	.venv-parity/$(SCRIPTS)/python tests/parity.py

.venv-dist/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-dist
	.venv-dist/$(SCRIPTS)/python -m pip install --quiet --editable '.[dist]'
	touch $@

# The files of a release, on Linux: the source; made of it the wheel with kernels, under the name of the oldest Linuxes
# that it runs on, and the one without, for everywhere else. Then all of it is tried in fresh environments.
DIST := PATH="$(CURDIR)/.venv-dist/$(SCRIPTS):$$PATH"
dist: .venv-dist/.ready
	rm -rf dist build
	$(DIST) GPUMLP_LIBRARY=require uv build --quiet --python $(PYTHON) --out-dir dist
	$(DIST) GPUMLP_LIBRARY=none uv build --quiet --python $(PYTHON) --wheel --out-dir dist dist/*.tar.gz
	$(DIST) auditwheel repair --wheel-dir dist dist/*-linux_*.whl
	rm dist/*-linux_*.whl
	$(DIST) twine check --strict dist/*
	$(DIST) check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(DIST) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(DIST) python tests/packages.py dist --output benchmarks/results/packages.csv

install-sizes:
	$(PYTHON) benchmarks/install_sizes.py

# Peers come one by one, and the benchmarks go on without those that cannot be installed. On Linux PyPI's torch brings
# gigabytes of CUDA libraries, but for a file that pip finds elsewhere; name other peers with LARGE_PEERS=... and, for the
# newest Python on the PATH, whose peers may be newer, with NEWEST_PEERS=... .
LARGE_PEERS ?= torch==2.13.* tensorflow-cpu
NEWEST_PEERS ?= jax[cpu] scikit-learn keras
NEWEST ?= $(shell for minor in 20 19 18 17 16 15 14 13 12 11; do \
	python3.$$minor -c '' 2>/dev/null && echo python3.$$minor && break; done)
BENCHES := .venv-user/.ready .venv-bench/.ready .venv-bench-newest/.ready .venv-bench-jax/.ready

# gpumlp as a user gets it: without extras, and not from the checkout
.venv-user/.ready: setup.py pyproject.toml $(shell git ls-files gpumlp kernels 2>/dev/null)
	rm -rf build .venv-user
	$(PYTHON) -m venv .venv-user
	.venv-user/$(SCRIPTS)/python -m pip install --quiet .
	touch $@

.venv-bench/.ready: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/$(SCRIPTS)/python -m pip install --quiet --editable '.[bench]'
	for peer in $(LARGE_PEERS); do .venv-bench/$(SCRIPTS)/python -m pip install --quiet "$$peer" || echo "without $$peer"; done
	touch $@

.venv-bench-newest/.ready:
	mkdir -p .venv-bench-newest
	if [ "$$($(PYTHON) -V)" = "$$($(NEWEST) -V)" ]; then echo "no newer Python than $(PYTHON)"; else \
		$(NEWEST) -m venv .venv-bench-newest && for peer in $(NEWEST_PEERS); do \
		.venv-bench-newest/$(SCRIPTS)/python -m pip install --quiet "$$peer" || echo "without $$peer"; done; fi
	touch $@

# the last JAX with the runtime that took less time of processors for the smallest networks
.venv-bench-jax/.ready:
	$(PYTHON) -m venv .venv-bench-jax
	.venv-bench-jax/$(SCRIPTS)/python -m pip install --quiet 'jax[cpu]==0.6.2' || echo "without JAX 0.6.2"
	touch $@

# Everything, which takes its time; a part: .venv-bench/bin/python benchmarks/run.py --only jobs --workload NAME --length 3 --cpu avx2
bench: $(BENCHES)
	.venv-bench/$(SCRIPTS)/python benchmarks/run.py
	.venv-bench/$(SCRIPTS)/python benchmarks/tables.py

tables:
	$(PYTHON) benchmarks/tables.py

# README's picture of speed, the demo's, the ensemble's, and the gallery
pictures: $(VENV)/.test
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python -m gpumlp demo --output examples/plots
	MPLBACKEND=Agg $(BIN)/python examples/uncertainty.py --output examples/plots/uncertainty.png
	MPLBACKEND=Agg $(BIN)/python examples/gallery.py

resources: $(VENV)/.test
	$(BIN)/python benchmarks/resources.py

# The machine code that `make gpu` will ask for on an H100 or H200, made without one. Where it stands, `make gpu` takes it.
GPU_CACHE ?= gpu-cache.zip
NVRTC ?= 13.0.88
ARCH ?= sm_90

gpu-cache: $(VENV)/.test .nvrtc/.ready
	$(BIN)/python benchmarks/gpu/gpu_cache.py --output $(GPU_CACHE) --nvrtc $(NVRTC) --arch $(ARCH)

# Everything worth doing on a machine with a GPU, in under ten minutes. A Python named by the caller (make gpu
# PYTHON=python3) is used as it is, with what is installed there; otherwise .venv-gpu is set up. PARTS="first tests"
# names some of its parts.
OUT ?= benchmarks/results
GPU_RUN := benchmarks/gpu/run.py --output $(OUT) $(PARTS:%=--only %) $(if $(filter-out file,$(origin GPU_CACHE))$(wildcard $(GPU_CACHE)),--cache $(GPU_CACHE))
# TrainKernel also wants nvcc, which it takes from the machine; without it, its rows say so.
GPU_PEERS ?= torch jax[cuda13] keras trainkernel

.venv-gpu/.ready: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/$(SCRIPTS)/python -m pip install --quiet --editable '.[cuda13,test]' 'cuda-toolkit[cublas]==13.*'
	for peer in $(GPU_PEERS); do .venv-gpu/$(SCRIPTS)/python -m pip install --quiet "$$peer" || echo "without $$peer"; done
	touch $@

ifeq ($(origin PYTHON),file)
# where there is no GPU there is nothing to install for: every part is skipped
GPU_BIN := $(if $(wildcard /dev/nvidiactl /dev/dxg),.venv-gpu/.ready,$(VENV)/.test)
gpu: $(GPU_BIN)
	PYTHONPATH=.:$(PYTHONPATH) $(dir $(GPU_BIN))bin/python $(GPU_RUN)
else
gpu:
	PYTHONPATH=.:$(PYTHONPATH) $(PYTHON) $(GPU_RUN)
endif
