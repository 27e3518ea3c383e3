.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

# The demo: every backbone and sampler on the CPU; a table, two figures, under two minutes.
demo: .venv/installed
	@rm -rf demo
	$(BIN)/dlm-bench sweep bench/sweeps/quick.toml --output demo/quick.jsonl
	$(BIN)/dlm-bench plot demo/quick.jsonl --output demo

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip, not uv: on machines without a GPU its index may offer the small CPU build of the same torch.
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dlm-bench needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
