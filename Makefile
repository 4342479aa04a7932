# make demo   label a small input and show what comes out
# make test   run the tests, all but those below: minutes
# make test-all
#             the rest, too: every fault, a real cluster, networks in their real sizes (make test-slow),
#             the oldest versions of all packages, and other programs that read labels (make
#             test-versions)
# make lint   what ruff and mypy say
# make bench  measure every stage, the library and the job on this machine
# All need Python >= 3.10, pip and make; everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
LOG    := $(VENV)/install.log

.PHONY: demo test test-all test-slow test-versions lint bench clean
.SILENT:

demo: $(VENV)/demo.stamp
	$(PY) -m jobs.demo

test: $(VENV)/test.stamp
	$(PY) -m pytest -n 2 --dist loadfile

test-all: test test-slow test-versions

test-slow: $(VENV)/test.stamp
	$(PY) -m pytest -n 2 --dist loadfile -m slow

test-versions: $(VENV)/test.stamp
	$(PY) -m pytest -m versions tests/versions

bench: $(VENV)/demo.stamp
	$(PY) -m benchmarks

lint: $(VENV)/test.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

$(VENV)/demo.stamp $(VENV)/test.stamp: $(VENV)/%.stamp: $(VENV)/made.stamp pyproject.toml
	echo "Installing tddfa3 and what it needs into $(VENV) (minutes the first time) ..."
	$(PY) -m pip install --disable-pip-version-check -e '.[$*]' > $(LOG) 2>&1 || { \
	  echo "make: pip could not install the packages: is there a network? The log is $(LOG)" >&2; exit 1; }
	touch $@

$(VENV)/made.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "make: tddfa3 needs Python >= 3.10, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true); name another one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { \
	  echo "make: '$(PYTHON) -m venv' failed: install Python's venv module (Debian: python3-venv)" >&2; exit 1; }
	touch $@

clean:
	rm -rf $(VENV) demo
