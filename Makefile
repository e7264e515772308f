# Everything runs in .venv, which `make` itself creates: only Python 3.11 and make have to be there.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A process of this stack imports thousands of modules: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE

# Where processes share the cores, the threads of a matrix product spend their time in waiting for each other.
test quick fast: export OMP_NUM_THREADS = 1

.NOTPARALLEL:
.PHONY: help setup demo test quick chaos check lint fast fuzz lock clean

help: ## Show what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: $(READY) ## Install everything into .venv (7 GB, about a minute on a fast line)

demo: $(READY) ## Start the whole stack here, play a support desk's day through it, and stop it
	@$(BIN)/forebay demo

test: $(READY) check fast ## All checks and all tests, with the real stack
	@# An engine takes one core while it starts, and what follows a crash is mostly waited for.
	$(BIN)/pytest -n 2 --dist loadfile -m "stack or model"

quick: EXAMPLES := few
quick: lint fast ## The fast subset: lint and the tests that need no server and no model, about a minute

chaos: $(READY) ## Break a stack of its own 200 times under load, and an older job's; overload and soak one; 2 h. docs/chaos.md
	@$(BIN)/python -m tests.chaos inject
	@$(BIN)/python -m tests.chaos inject --older-job --injections 90
	@$(BIN)/python -m tests.chaos overload
	@$(BIN)/python -m tests.chaos soak

check: lint
	$(BIN)/basedpyright
	$(BIN)/lint-imports

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

fast: $(READY) # many of these wait, so that two cores carry three processes
	$(BIN)/pytest -q -n 3 --dist worksteal --hypothesis-profile=$(or $(EXAMPLES),many) -m "not stack and not model"

fuzz: INPUTS := 1000000
fuzz: $(READY) ## Feed a million hostile inputs to all that reads what others write (INPUTS=..., seven minutes or ten)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group fuzz
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS)

lock: $(READY) ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --extra local --group dev --python-version 3.11 --upgrade \
		--custom-compile-command "make lock" --no-annotate -o requirements.lock

clean: ## Stop the local stack and remove what was installed and produced
	-@[ -x $(BIN)/forebay ] && $(BIN)/forebay down
	rm -rf $(VENV) .forebay

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV) (the first time fetches about 3 GB of packages)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	@echo 'setuptools<81' > $(VENV)/build-constraints.txt # apache-flink's build reads pkg_resources
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --build-constraints $(VENV)/build-constraints.txt -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)
