.DEFAULT_GOAL := help
.PHONY: dist packages release help test-unit tables demo test fuzz check lint format types coverage bench man clean setup setup-test

PYTHON := .venv/bin/python
SOURCES := vmount parsers tests fixtures bench scripts
# Tests of one file share images, so they stay in one process.
PYTEST := $(PYTHON) -m pytest -n 2 --dist loadfile

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Make a small virtual machine, mount it, copy files out and compare them
	@scripts/setup packages.txt packages-demo.txt
	@scripts/demo

test: setup-test ## Run the tests
	@scripts/vcsim >/dev/null || [ "$$CI" != true ]
	HYPOTHESIS_PROFILE=long $(PYTEST)

test-unit: setup ## Run the tests that need neither root nor other programs
	$(PYTHON) -m pytest -n 2 tests/unit

fuzz: setup-test ## Fuzz the parsers for FUZZ_SECONDS (60)
	@$(PYTHON) -c 'import atheris' 2>/dev/null || $(PYTHON) -m pip install --quiet \
		--disable-pip-version-check --only-binary atheris -c constraints.txt -e '.[fuzz]' || \
		echo "without atheris, which finds more: there is no wheel of it for this Python"
	$(PYTHON) -m tests.fuzz

check: lint format types ## Run the linter, the format check and the type checker

lint: setup ## Run the linter
	$(PYTHON) -m ruff check $(SOURCES)

format: setup ## See that the code is formatted
	$(PYTHON) -m ruff format --check $(SOURCES)

types: setup ## Run the type checker
	$(PYTHON) -m mypy

coverage: setup-test ## Run the tests and say which lines they miss
	$(PYTEST) --cov --cov-report=term-missing:skip-covered  # subprocesses too: see pyproject.toml

bench: setup-test ## Compare the speed with that of other programs
	$(PYTHON) -m bench

man: setup ## Write the manual page from the command's own help
	$(PYTHON) -m scripts.man

tables: setup ## Write the tables of the documentation that come from the code
	@$(PYTHON) -m scripts.tables
	@$(PYTHON) -m scripts.requirements

dist: setup ## Make the source distribution, the wheel, and a wheelhouse that installs without a compiler
	@packaging/dist

packages: dist ## Make and try the .deb, the .rpm, the image and their bill of materials (as root)
	@scripts/setup packages.txt packages-demo.txt packages-release.txt
	@packaging/packages

release: setup ## See that this commit can be released, and make all that is published
	@packaging/release

clean: ## Remove all that was made, and the virtual environment
	rm -rf build dist .venv .coverage .hypothesis *.egg-info fixtures/cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

setup:
	@scripts/setup packages.txt

setup-test:
	@scripts/setup packages.txt packages-demo.txt packages-test.txt
