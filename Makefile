# The project's table of contents. Every target sets up .venv by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SHELL := bash
.SHELLFLAGS := -o pipefail -ec
# Of pip's lines, those that show progress.
PROGRESS := awk '/ Downloading |Building wheel|^Installing collected/ { print "  " substr($$0, 1, 100); fflush() }'

.PHONY: help demo check test faults sanitize-gpu lab notebooks bench mask2former ops wheel clean

help:
	@echo "make demo   all stages on the built-in sample -> outputs/demo/submission.csv"
	@echo "make check  linters, formatting, types, import layers and quick tests (3 minutes on 2 cores)"
	@echo "make test   all tests (12 minutes on 2 cores)"
	@echo "make faults   kills, changed and bad inputs, sanitizers: up to 40 minutes on 2 cores; started again, it continues"
	@echo "make sanitize-gpu   the CUDA kernels under compute-sanitizer (needs a GPU)"
	@echo "make lab    JupyterLab on the notebooks"
	@echo "make bench  run all benchmarks"
	@echo "make notebooks  write the parameters cells of the notebooks from the options in lib"
	@echo "make docs   the documentation's site -> build/docs, links checked"
	@echo "make tables   result tables and chart in README and docs"
	@echo "make gallery  picture, scores and executed notebooks of the last demo"
	@echo "make mask2former  install the parts of the Mask2Former head (half a minute)"
	@echo "make ops    compile mmcv's operators (nothing here needs them; 15-25 minutes on 2 cores)"
	@echo "make wheel  build the wheel and the source archive -> dist"
	@echo "make clean  remove .venv, the sample and the demo's runs"

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "Python 3.11 or 3.12 is needed (found: $$($(PYTHON) --version)). Try: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@[ -d .venv ] || { \
		echo "Installing PyTorch, mmsegmentation, JupyterLab and the checking tools into .venv, once:"; \
		echo "2-5 minutes; 550 MB to download and 2.1 GB on disk, several GB more with PyTorch's CUDA build."; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(PIP) install --editable '.[test,check]' | $(PROGRESS)
	@touch $@

# Compiled again only when a source changed. Without a compiler it says so, and DCNv3 runs in plain PyTorch.
.venv/.kernels: .venv/.installed ops_dcnv3/compilation.py $(wildcard ops_dcnv3/csrc/*)
	@echo "Compiling the DCNv3 kernels (10 to 20 seconds; with CUDA a few minutes)."
	@$(BIN)/python -m ops_dcnv3.build || echo "DCNv3 runs in plain PyTorch: slower, with the same results."
	@touch $@

# Without its dependencies: they would replace numpy and OpenCV by old ones. Those it needs are in the extra.
.venv/.mask2former: .venv/.installed
	@echo "Installing mmdetection for the Mask2Former head (half a minute)."
	@$(PIP) install --editable '.[test,check,mask2former]' | $(PROGRESS)
	@$(PIP) install --no-deps $$(sed -n 's/.*"\(onedl-mmdetection==[^"]*\)".*/\1/p' pyproject.toml) | $(PROGRESS)
	@touch $@

mask2former: .venv/.mask2former

demo: .venv/.kernels
	$(BIN)/fisheye demo

check: .venv/.kernels
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lib ops_dcnv3
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser and not gpu"

test: .venv/.kernels .venv/.mask2former
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Its records are in build/faults, its figures in benchmarks/results/faults.json. Options: make faults ARGS="--minutes 10".
faults: .venv/.kernels
	$(BIN)/python -m tests.faults $(ARGS)

sanitize-gpu: .venv/.kernels
	@command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed (it comes with CUDA)."; exit 1; }
	@$(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "torch finds no GPU."; exit 1; }
	compute-sanitizer --error-exitcode 1 $(BIN)/python -m tests.faults.operator_runs 0 200 --device cuda

lab: .venv/.kernels
	$(BIN)/fisheye lab

notebooks: .venv/.kernels
	$(BIN)/python -c "from lib.tools.parameters_cells import write_cells; write_cells()"

bench: .venv/.kernels
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

ops: .venv/.installed
	$(PIP) install --quiet ninja psutil wheel "setuptools>=80" packaging
	MAX_JOBS=$${MAX_JOBS:-2} CFLAGS=-g0 $(PIP) install --no-build-isolation --no-deps --no-cache-dir \
		--force-reinstall $$(sed -n 's/.*"\(onedl-mmcv==[^"]*\)".*/\1/p' pyproject.toml)
	$(BIN)/python -c 'import mmcv._ext; print("mmcv operators: built")'

wheel: .venv/.installed
	$(BIN)/python -m hatchling build

clean:
	rm -rf .venv dist ops_dcnv3/_c*.so data/sample outputs/demo outputs/demo-plain .*_cache

# The documentation. `docs` builds the site and checks its links; the other two write generated parts of it.
.PHONY: docs tables gallery

.venv/.docs: .venv/.installed
	@$(PIP) install --editable '.[docs]' | $(PROGRESS)
	@touch $@

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

tables: .venv/.installed
	$(BIN)/python docs/generate.py tables

# Picture, scores and notebooks of the demo's last run.
gallery: .venv/.installed
	$(BIN)/python docs/generate.py picture
	$(BIN)/python docs/generate.py scores
	$(BIN)/python docs/generate.py gallery
