# The project's table of contents. `make demo` and `make test` set everything up in .venv by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin

.PHONY: help demo test lab bench mask2former ops clean

help:
	@echo "make demo   the whole job on the built-in sample -> outputs/demo/submission.csv"
	@echo "make test   the tests"
	@echo "make lab    JupyterLab on the notebooks"
	@echo "make bench  the benchmarks"
	@echo "make mask2former  install what the Mask2Former head needs (half a minute)"
	@echo "make ops    compile mmcv's operators (nothing here needs them; 15-25 minutes on 2 cores)"
	@echo "make clean  remove .venv, the sample and the demo's runs"

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "Python 3.11 or 3.12 is needed (found: $$($(PYTHON) --version)). Try: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Compiled again only when a source changed. Without a compiler it says so, and DCNv3 runs in plain PyTorch.
.venv/.kernels: .venv/.installed ops_dcnv3/compilation.py $(wildcard ops_dcnv3/csrc/*)
	@$(BIN)/python -m ops_dcnv3.build || echo "Going on with the PyTorch implementation of DCNv3."
	@touch $@

# Without its dependencies: they would replace numpy and OpenCV by old ones. Those it needs are in the extra.
.venv/.mask2former: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,mask2former]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		$$(sed -n 's/.*"\(onedl-mmdetection==[^"]*\)".*/\1/p' pyproject.toml)
	@touch $@

mask2former: .venv/.mask2former

demo: .venv/.kernels
	$(BIN)/python -m lib.sample --out data/sample
	$(BIN)/python -m lib.pipeline --data data/sample --out outputs/demo --recipe demo --resume
	$(BIN)/python -m lib.pipeline --data data/sample --out outputs/demo-plain --recipe demo -p augment false --resume
	@echo
	@echo "IoU on the sample's withheld test labels: with augmentation (demo), without (demo-plain)"
	$(BIN)/python -m lib.submission score outputs/demo/submission.csv outputs/demo-plain/submission.csv \
		--labels data/sample/withheld/test_gt --size 960 540

test: .venv/.kernels .venv/.mask2former
	$(BIN)/python -m pytest -n 2 --dist loadfile

lab: .venv/.kernels
	@[ -d data/sample ] || $(BIN)/python -m lib.sample --out data/sample
	$(BIN)/jupyter lab --notebook-dir=notebooks $$([ "$$(id -u)" -ne 0 ] || echo --allow-root)

bench: .venv/.kernels
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

ops: .venv/.installed
	$(BIN)/python -m pip install --quiet ninja psutil wheel "setuptools>=80" packaging
	MAX_JOBS=$${MAX_JOBS:-2} CFLAGS=-g0 $(BIN)/python -m pip install --no-build-isolation --no-deps --no-cache-dir \
		--force-reinstall $$(sed -n 's/.*"\(onedl-mmcv==[^"]*\)".*/\1/p' pyproject.toml)
	$(BIN)/python -c 'import mmcv._ext; print("mmcv operators: built")'

clean:
	rm -rf .venv ops_dcnv3/_c*.so data/sample outputs/demo outputs/demo-plain

# The documentation. `docs` builds the site and checks its links; the other two write generated parts of it.
.PHONY: docs tables gallery

.venv/.docs: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
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
