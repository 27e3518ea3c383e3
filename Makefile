.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

# The demo: every backbone and sampler, on a GPU if there is one; a table, the figures, a report.
demo: .venv/installed
	@rm -rf demo
	$(BIN)/python bench/demo.py --output demo

# The Triton kernels run in its interpreter, which has to be asked for before they are imported.
test: .venv/installed
	$(BIN)/python -m pytest
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/interpreter

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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
