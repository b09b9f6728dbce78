# `make help` lists what there is.
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
CODE := operator tests hack bench

.PHONY: help setup try test check check-static generate lint lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Prepare .venv and the control plane's programs
	hack/setup

try: ## Run the examples on a control plane with simulated GPU nodes
	hack/try

test: ## Run every test
	hack/test

check: check-static ## Everything that needs no cluster, in about two minutes
	hack/test pure

check-static: ## Lint, types, import layers, generated files
	hack/check

lint: ## Mend what ruff can mend
	@hack/setup --pure
	.venv/bin/ruff check --fix $(CODE)
	.venv/bin/ruff format $(CODE)

generate: ## Write the CRD, the chart's copies, the CLI and API pages
	@hack/setup --pure
	$(PYTHON) hack/generate

lock: ## Pin the dependencies of pyproject.toml again
	@hack/setup --pure
	hack/lock

clean: ## Remove .venv and caches of tools; the cache of programs stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
