# Verbs of this repository; `make help` lists them. They make .venv from uv.lock first, and again when that changes.
#
# NAME=demo OS=debian12    which target `make demo` and its kin mean, and its system (debian12 or debian13)
# MACHINE=1                that target is a virtual machine: a kernel, disk and clock of its own, where containers won't do
# BENCH="--rounds 5"       options of `make bench` (`python -m tests.bench --help`)
# TARGET=demo AUDIT="--rows ports,ssh"    target and options of `make audit` (`python -m tests.audit --help`)
# YES=1                    may install missing packages (Docker's engine) without asking; CI=true means the same

NAME ?= demo
OS ?=
MACHINE ?=
BENCH ?=
TARGET ?= $(NAME)
AUDIT ?=
BIN := .venv/bin
STORIES := $(BIN)/pytest tests/e2e -q -n 2 --dist loadfile

# When this run began: the time that making .venv takes is part of the demo's table.
export SLIPWAY_STARTED := $(shell date +%s)
# A company's TLS-inspecting proxy is normal: trust what the machine trusts. Only the Python found below is used.
export UV_SYSTEM_CERTS ?= 1
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo demo-ssh demo-down test test-all test-hours check lint format unit examples e2e audit bench docs engine clean

help: ## List the verbs
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r verb text; do \
		printf '  make %-10s %s\n' "$$verb" "$$text"; done

setup: .venv/synced ## Make .venv from uv.lock

demo: setup ## A throw-away VPS with the example app over HTTPS, verified (NAME=demo, OS=debian12, MACHINE=1)
	@$(BIN)/python -m tests.target.demo --name $(NAME) $(if $(OS),--os $(OS)) $(if $(MACHINE),--machine)

demo-ssh: setup ## A shell on that VPS
	@$(BIN)/python -m tests.target ssh --name $(NAME)

demo-down: setup ## Remove that VPS
	@$(BIN)/python -m tests.target down --name $(NAME)

test: lint unit examples e2e ## lint, unit, examples and e2e: what must pass before a change is done

# All stories on both systems, each row of the fault table, 5 kills of a deploy and 4 power cuts in containers, and one
# machine's life (Debian 13). What it leaves out is what test-hours is for.
test-all: lint unit examples engine ## The same with the slow stories, and one on a machine: about an hour
	@$(STORIES) --durations=40 -m 'not hours'

# All stories on machines, of both systems, and all the kills and power cuts that are promised.
test-hours: setup engine ## Stories on virtual machines, 20 kills, 40 power cuts: hours where there is no KVM
	@SLIPWAY_KILLS=20 SLIPWAY_CUTS=40 $(STORIES) --durations=0 -m 'slow or hours' -k 'machine or killed or power'

check: lint unit ## What needs no Docker: lint and unit tests

lint: setup ## Style (ruff) and types (mypy)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . \
		|| { echo 'Error: style; `make format` fixes most of it, `$(BIN)/ruff check .` shows the rest' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary

format: setup ## Fix the style
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet .

unit: setup ## Tests without a host: seconds
	@$(BIN)/pytest tests/unit -q -n 2

examples: setup ## The example apps' own tests, each in an environment of its own
	@for app in examples/*/; do \
		echo "$$app"; \
		(cd "$$app" && UV_PROJECT_ENVIRONMENT="$(CURDIR)/.venv/examples/$$(basename "$$app")" \
			"$(CURDIR)/$(BIN)/uv" run --quiet --locked pytest -q) || exit 1; \
	done

e2e: setup engine ## Stories on real hosts: minutes
	@$(STORIES) --durations=15 -m 'not slow and not hours'

audit: setup engine ## Measuring tools look at the demo's VPS, and at one without hardening: minutes (TARGET=demo, AUDIT=--help)
	@$(BIN)/python -m tests.audit --target $(TARGET) $(AUDIT)

bench: setup engine ## What a run takes near and far, beside stock pyinfra, Ansible and a shell script (BENCH=--help)
	@$(BIN)/python -m tests.bench $(BENCH)

engine: setup ## Install and start a Docker engine where none answers
	@$(BIN)/python -m tests.target engine

docs: setup ## Write docs/reference.md and inventories/example.py from the settings and the parsers
	@$(BIN)/python -m slipway.settings
	@$(BIN)/python -m docs.reference

clean: ## Remove .venv and what tools left; targets stay (demo-down)
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache

# uv comes by pip, at the version and with the hashes that uv.lock has for it; all else comes by uv.
.venv/synced: uv.lock pyproject.toml
	@python= ; \
	for each in python3 python3.14 python3.13 python3.12 python3.11; do \
		"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { python=$$each; break; }; \
	done; \
	[ -n "$$python" ] || { echo 'Error: no Python 3.11 or newer in the PATH; install one: apt install python3 python3-venv' >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo 'Error: this Python has no venv; install it: apt install python3-venv' >&2; exit 1; }; \
	if ! $(BIN)/uv --version >/dev/null 2>&1; then \
		echo 'Making .venv from uv.lock …' >&2; \
		"$$python" -m venv --clear .venv \
		&& $(BIN)/python -c 'import tomllib; uv = next(p for p in tomllib.load(open("uv.lock", "rb"))["package"] if p["name"] == "uv"); print("uv==" + uv["version"], *("--hash=" + w["hash"] for w in uv["wheels"]))' > .venv/uv.txt \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r .venv/uv.txt \
		|| { echo 'Error: uv could not be installed from the package index; is it reachable (pip config list)?' >&2; exit 1; }; \
	fi
	@$(BIN)/uv sync --quiet --locked --compile-bytecode
	@$(BIN)/python -m compileall -q roles slipway
	@touch $@
