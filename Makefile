.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin

# On all cores, a thread each; more than 8 workers of torch are mostly memory.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal --durations 20
FAST := not slow and not slurm and not browser and not interpreter and not gpu
REST := (slow or slurm or browser) and not interpreter and not gpu

.PHONY: demo test test-rest test-all lint compile clean

# The demo: every backbone and sampler, on a GPU if there is one; a table, the figures, a report.
demo: .venv/installed
	@rm -rf demo
	$(BIN)/python bench/demo.py --output demo

# The fast tests.
test: .venv/installed
	$(PYTEST) -m "$(FAST)"
	@echo "These were the fast tests. The rest (slow, Slurm, browser, Triton's interpreter): make test-rest"
	@echo "Both: make test-all. On a machine with a GPU: $(BIN)/python -m pytest tests/gpu"

# Triton's interpreter has to be asked for before the kernels are imported.
test-rest: .venv/installed
	$(PYTEST) -m "$(REST)"
	TRITON_INTERPRET=1 $(PYTEST) tests/interpreter

test-all: test test-rest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every Triton kernel for sm_90, without a GPU; CI's tests compile the project's own.
compile: .venv/installed
	TRITON_CACHE_DIR=$${TRITON_CACHE_DIR:-$$(mktemp -d)} $(BIN)/python bench/precompile.py

# mamba-ssm without its compiled part, whose kernels nothing here uses, and without its pins.
# pip, not uv: on machines without a GPU its index may offer the small CPU build of the same torch.
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dlm-bench needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt
	MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
	  $(BIN)/pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-build-isolation mamba-ssm==2.3.2.post1
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
