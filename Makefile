# make demo   a first dataset, in some minutes          make test   all tests
# Needs Python 3.11 or newer and the network for pip; everything lands in .venv and the cache folder of `oracles`.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo/run.py
BENCH ?= benchmarks/roofline.py
JOBS ?= 2
PYTEST_ARGS ?=

# Programs that tests compare results with live in environments of their own: no licence and no pin of theirs is ours.
WKDASK_ORACLES ?= $(shell test -n "$$HOME" && test -w "$$HOME" && echo "$$HOME/.cache/wkdask-oracles" || echo "$(CURDIR)/.oracles")
WEBKNOSSOS_VERSION := 4.3.3
# The webknossos library knows Python up to 3.13.
ORACLE_PYTHON ?= $(PYTHON)
export WKDASK_ORACLE_WEBKNOSSOS ?= $(WKDASK_ORACLES)/webknossos
OME_PACKAGES := ome-zarr==0.18.0 ngff-zarr==0.50.0 ome-zarr-models==1.7
export WKDASK_ORACLE_OME ?= $(WKDASK_ORACLES)/ome
CLOUDVOLUME_PACKAGES := cloud-volume==12.15.2 pyspng-seunglab==1.1.3
export WKDASK_ORACLE_CLOUDVOLUME ?= $(WKDASK_ORACLES)/cloud-volume
ATHERIS_VERSION := 3.0.0
FUZZ_VENV := $(WKDASK_ORACLES)/fuzz
FUZZ_FOLDER ?= $(WKDASK_ORACLES)/fuzz-found
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
ORACLE := $(WKDASK_ORACLE_WEBKNOSSOS)/bin/python
OME := $(WKDASK_ORACLE_OME)/bin/python
CLOUDVOLUME := $(WKDASK_ORACLE_CLOUDVOLUME)/bin/python
HAS_PACKAGES := import sys, importlib.metadata as m; sys.exit(any(m.version(p.split("==")[0]) != p.split("==")[1] for p in sys.argv[1:]))

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types imports house docs bench scale oracles soak fuzz lock clean

help:
	@echo "make demo     install wkdask into $(VENV) and run $(DEMO)"
	@echo "make test     install everything, then run all tests ($(JOBS) processes; JOBS=4 for four)"
	@echo "make check    style, types, import rules, sizes, documentation"
	@echo "make bench    benchmarks: time and memory"
	@echo "make scale    all figures of docs/scale.md, some ten minutes; let nothing else run meanwhile"
	@echo "make soak     the tests that run for minutes"
	@echo "make fuzz     damaged files of all formats, FUZZ_SECONDS=$(FUZZ_SECONDS) for each target, two at a time; FUZZ_TARGETS chooses"
	@echo "make oracles  the programs that tests compare with, in $(WKDASK_ORACLES)"
	@echo "make docs     the documentation, in docs/_build/html"
	@echo "make lock     requirements-dev.lock anew"
	@echo "make clean    remove what was built; not $(VENV)"
	@echo "PYTHON=/path/to/python3.12 chooses another Python than $(PYTHON)."

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "wkdask needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
	       "Name a newer one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The package as it stands here (editable), with all extras and tools; again only when its requirements change.
$(VENV)/.installed: pyproject.toml wkdask/_version.py | $(PY)
	$(PIP) install --quiet --editable ".[all,dev]"
	touch $@

demo: | $(PY)
	test -e $(VENV)/.installed || $(PIP) install --quiet .
	$(PY) $(DEMO)

# A test process that dies ends the run: pytest-xdist would wait for ever for what that one still had to do.
test: $(VENV)/.installed oracles
	$(PY) -m pytest -n $(JOBS) --dist loadfile --max-worker-restart=0 $(PYTEST_ARGS)

soak: $(VENV)/.installed oracles
	$(PY) -m pytest --run-soak -m soak --timeout 0 $(PYTEST_ARGS)

# atheris sees the packages of $(VENV), but is not one of them.
fuzz: $(VENV)/.installed
	@"$(FUZZ_VENV)/bin/python" -c 'import importlib.metadata as m; m.version("atheris") == "$(ATHERIS_VERSION)" or exit(1)' \
	  2>/dev/null || $(MAKE) --no-print-directory fuzz-atheris
	"$(FUZZ_VENV)/bin/python" -m tests.fuzz.campaign --seconds $(FUZZ_SECONDS) --folder "$(FUZZ_FOLDER)" $(FUZZ_TARGETS)

.PHONY: fuzz-atheris
fuzz-atheris:
	mkdir -p "$(FUZZ_VENV)"
	test ! -d .oracles || echo '*' > .oracles/.gitignore
	$(PY) -m venv --clear "$(FUZZ_VENV)"
	"$(FUZZ_VENV)/bin/python" -m pip --disable-pip-version-check install --quiet atheris==$(ATHERIS_VERSION)
	$(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$(FUZZ_VENV)/wkdask.pth"
	mv "$(FUZZ_VENV)/wkdask.pth" "$$("$(FUZZ_VENV)/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

check: lint types imports house docs

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed
	$(VENV)/bin/mypy

imports: $(VENV)/.installed
	$(VENV)/bin/lint-imports

house: $(VENV)/.installed
	$(PY) -m pytest -q --no-header tests/test_house.py

docs: $(VENV)/.installed
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.installed oracles
	$(PY) $(BENCH)

scale: $(VENV)/.installed
	@uptime
	$(PY) benchmarks/scale.py
	$(PY) benchmarks/throughput.py
	$(PY) benchmarks/throughput.py --strategies threads,local,leases --processes 2 --tasks 1000000
	$(PY) benchmarks/clusters.py --size 2048,2048,128
	$(PY) benchmarks/simulate.py --measure .
	$(PY) benchmarks/simulate.py --check
	$(PY) benchmarks/simulate.py --markdown
	$(PY) benchmarks/simulate.py --markdown --bandwidth 50 --terabytes 1000 --workers 100,1000
	$(PY) benchmarks/simulate.py --markdown --bandwidth 50 --terabytes 100 --workers 100 --shard 512
	@uptime

oracles:
	@"$(ORACLE)" -c 'import sys, importlib.metadata as m; sys.exit(m.version("webknossos") != "$(WEBKNOSSOS_VERSION)")' \
	  2>/dev/null || $(MAKE) --no-print-directory oracle-webknossos
	@"$(OME)" -c '$(HAS_PACKAGES)' $(OME_PACKAGES) 2>/dev/null || $(MAKE) --no-print-directory oracle-ome
	@"$(CLOUDVOLUME)" -c '$(HAS_PACKAGES)' $(CLOUDVOLUME_PACKAGES) 2>/dev/null || $(MAKE) --no-print-directory oracle-cloudvolume

.PHONY: oracle-webknossos
oracle-webknossos:
	@$(ORACLE_PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "webknossos $(WEBKNOSSOS_VERSION) needs Python 3.11, 3.12 or 3.13, but $(ORACLE_PYTHON) is:" \
	       "$$($(ORACLE_PYTHON) --version 2>&1). Name one: make ORACLE_PYTHON=/path/to/python3.12"; exit 2; }
	mkdir -p "$(WKDASK_ORACLE_WEBKNOSSOS)"
	test ! -d .oracles || echo '*' > .oracles/.gitignore
	$(ORACLE_PYTHON) -m venv --clear "$(WKDASK_ORACLE_WEBKNOSSOS)"
	"$(ORACLE)" -m pip --disable-pip-version-check install --quiet "webknossos[all]==$(WEBKNOSSOS_VERSION)"

.PHONY: oracle-ome
oracle-ome:
	mkdir -p "$(WKDASK_ORACLE_OME)"
	test ! -d .oracles || echo '*' > .oracles/.gitignore
	$(ORACLE_PYTHON) -m venv --clear "$(WKDASK_ORACLE_OME)"
	"$(OME)" -m pip --disable-pip-version-check install --quiet $(OME_PACKAGES)

.PHONY: oracle-cloudvolume
oracle-cloudvolume:
	mkdir -p "$(WKDASK_ORACLE_CLOUDVOLUME)"
	test ! -d .oracles || echo '*' > .oracles/.gitignore
	$(ORACLE_PYTHON) -m venv --clear "$(WKDASK_ORACLE_CLOUDVOLUME)"
	"$(CLOUDVOLUME)" -m pip --disable-pip-version-check install --quiet $(CLOUDVOLUME_PACKAGES)

lock: | $(PY)
	$(PY) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip --disable-pip-version-check install --quiet uv
	$(VENV)/uv/bin/uv pip compile pyproject.toml --extra all --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --upgrade --output-file requirements-dev.lock
	rm -rf $(VENV)/uv

clean:
	rm -rf build dist demo-output docs/_build docs/api .benchmarks .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find wkdask tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
