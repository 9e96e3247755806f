# Everything a checkout can do; `make help` lists it.  Nothing here needs more than Python 3.11.
# PYTHON=python3.13 chooses another interpreter, ARGS='-k merge' is handed to pytest or the benchmark.

VENV := .venv
BIN := $(VENV)/bin
# A venv knows its own path; one that was moved or copied here with the checkout is made again.
READY := $(VENV)/ready
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
  MOVED := moved
endif
# A file is for one worker, which starts its servers once, and boots a guest with its first file of the lab.
PYTEST_ARGS ?= -n auto --dist loadfile --no-loadscope-reorder
SCRIPTS := bin/blockdiff .ci/run blockdiff/completion/bash/blockdiff $(wildcard tests/*.sh) tests/lab/objectstore.sh
MD5_TESTS := tests/blocks tests/ingest $(patsubst %,tests/test_%.py,backup dumpcommand patch restore verify)
SANITIZED := $(VENV)/sanitized.so
PIECES := tests/lab/init.sh tests/lab/reset.sh  # handed to the guest's shell

.DEFAULT_GOAL := help
.PHONY: help venv packages demo test test-hashlib test-long test-store sanitize lint ruff mypy floor pages scripts bench clean moved

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  */  make \1\t/p' Makefile | expand -t 21

venv: $(READY)  ## .venv with the program, in place, and all that tests and lint need

$(READY): pyproject.toml tests/venv.sh .ci/extension.py blockdiff/blocks/md5lanes.c $(MOVED)
	tests/venv.sh $(VENV)

demo: $(READY)  ## back up a real file system twice, list, verify, restore and compare
	tests/demo.sh

packages:  ## as root on Debian: what tests and the lab need of the system; elsewhere nothing
	tests/packages.sh

test: packages $(READY)  ## the whole suite; the lab where it can run
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(ARGS)

test-long: $(READY)  ## what takes too long for every run: volumes of GiB with memory measured, damage at every byte; a quarter of an hour
	$(BIN)/python -m pytest -m long -o faulthandler_timeout=0 $(ARGS)

test-store: packages $(READY)  ## what needs an object store: a real one, Ceph, on loopback
	$(BIN)/python -m pytest -m store $(ARGS)

test-hashlib: $(READY)  ## all that computes MD5s, with hashlib in the extension's place
	$(BIN)/python -m pytest $(PYTEST_ARGS) --md5 hashlib $(MD5_TESTS) $(ARGS)

sanitize: $(READY)  ## the MD5 extension's tests, with AddressSanitizer and UndefinedBehaviorSanitizer watching it; needs GCC
	CFLAGS='-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all' $(BIN)/python .ci/extension.py $(SANITIZED)
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	$(BIN)/python -m pytest -p no:xdist -s --md5 $(CURDIR)/$(SANITIZED) tests/blocks/test_md5many.py $(ARGS)

lint: ruff mypy floor pages scripts  ## ruff, mypy, vermin; mandoc and shellcheck where they are installed

ruff: $(READY)  ## style, and mistakes that can be seen without running
	$(BIN)/python -m ruff check .

mypy: $(READY)  ## types
	$(BIN)/python -m mypy

floor: $(READY)  ## what is pushed keeps to Python 3.6
	$(BIN)/python tests/support/floor.py

pages:  ## mandoc on the man pages, where it is installed
	@if command -v mandoc >/dev/null; then set -x; mandoc -T lint -W warning man/*.[0-9]; \
	else echo "mandoc is not installed: man pages not looked at"; fi

scripts:  ## shellcheck on the shell scripts, where it is installed
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SCRIPTS) && shellcheck --severity=error --shell=sh $(PIECES); \
	else echo "shellcheck is not installed: shell scripts not looked at"; fi

bench: $(READY)  ## measure against other tools; ARGS='--size 4G --json'
	$(BIN)/python -m tests.bench $(ARGS)

clean:  ## remove what was built here, .venv too
	rm -rf $(VENV) blockdiff/blocks/*.so build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
