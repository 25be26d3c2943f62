# SPDX-License-Identifier: Apache-2.0
# `make` builds the NMS libraries this machine can build. `make benchmark` and `make test` set everything up first.

PYTHON ?= python3
VENV ?= .venv
# The interpreter whose TensorFlow the native parts are built for: the environment's if there is one, else PYTHON.
BUILD_PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(abspath $(VENV)/bin/python),$(PYTHON))
PYTEST_ARGS ?= -n 2
FUZZ_COUNT ?= 100000
PIP_ARGS ?= --quiet --disable-pip-version-check
# Looked for before anything is downloaded that is of no use without it; `make weights` does without.
compiler_first = $(MAKE) --no-print-directory -C NMS/host compiler
DOWNLOAD := about 700 MB to download and 2.5 GB on disk; with a fast connection all is done in 3 minutes, and pip is silent meanwhile

.PHONY: all nms multinms setup setup-runtime benchmark demo weights test test-slow test-tf26 test-slow-tf26 test-tf26-setup reliability lint \
  lint-codelets sanitize test-aarch64 clean help
.DEFAULT_GOAL := all

all: nms  ## build the NMS libraries (default)

nms:  ## build the NMS libraries, for the host and, with the Poplar SDK enabled, for the IPU
	@$(MAKE) --no-print-directory -C NMS PYTHON="$(BUILD_PYTHON)"

# A name that the scripts of Graphcore's example call. One run builds every form of the operator.
multinms: nms  ## the same as nms

setup: $(VENV)/.installed $(VENV)/.importable  ## create .venv, install requirements, build the NMS libraries
	@$(MAKE) --no-print-directory nms BUILD_PYTHON="$(abspath $(VENV)/bin/python)"

setup-runtime: $(VENV)/.runtime $(VENV)/.importable  ## for a machine that only runs compiled files: .venv without TensorFlow, libdetect
	@$(MAKE) --no-print-directory -C NMS/host libdetect

# Debian's python3 lacks the module that puts pip into an environment: the pip outside does it then.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.9 or later is needed, this is " + sys.version.split()[0] + \
	  ". Name another with PYTHON=; on an IPU machine see docs/IPU.md.") if sys.version_info < (3, 9) else None'
	+@$(compiler_first)
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { $(PYTHON) -m venv --without-pip --clear $(VENV) && \
	  $(PYTHON) -m pip --python $(VENV)/bin/python install $(PIP_ARGS) pip; }

$(VENV)/.installed: requirements.txt requirements-runtime.txt | $(VENV)/bin/python
	+@$(compiler_first)
	@echo "Installing TensorFlow, OpenVINO and what they need into $(VENV): $(DOWNLOAD)."
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -r requirements.txt
	@touch $@

$(VENV)/.runtime: requirements-runtime.txt | $(VENV)/bin/python
	+@$(compiler_first)
	@echo "Installing the engines and what they need into $(VENV)."
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -r requirements-runtime.txt
	@touch $@

# With PYTHONSAFEPATH set, `python -m ipu_utils.compare` does not look into the current folder.
$(VENV)/.importable: | $(VENV)/bin/python
	@$(VENV)/bin/python -c 'import pathlib, sys, sysconfig; \
	  pathlib.Path(sysconfig.get_path("purelib"), "efficientdet_benchmark.pth").write_text(sys.argv[1] + "\n")' "$(CURDIR)"
	@touch $@

$(VENV)/.tested: tests/requirements.txt $(VENV)/.installed
	@echo "Installing pytest and what the tests need (FFmpeg, Open MPI, ONNX Runtime, NNCF, ruff) into $(VENV): about 500 MB on disk."
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -r tests/requirements.txt
	@touch $@

benchmark: setup  ## set up, then run EfficientDet-D0 with default options
	$(VENV)/bin/python ipu_inference.py --model-name efficientdet-d0

# A small detector that lies here with its images: real detections without any download.
DEMO_DIR ?= outputs/demo
TRAINED := tests/data/trained

demo: setup  ## find shapes in the images of a trained detector that comes along; annotated copies, a contact sheet
	$(VENV)/bin/python ipu_inference.py --model-name efficientdet-lite0 --model-dir $(TRAINED) \
	  --dataset-type image-directory --image-path $(TRAINED)/images \
	  --output-predictions --output-dir $(DEMO_DIR) --contact-sheet $(DEMO_DIR)/contact-sheet.jpg

MODEL ?= efficientdet-d0
FETCH_ARGS ?=

weights: compiler_first = true
weights: $(VENV)/.installed  ## fetch the published checkpoint of MODEL into tmp/
	$(VENV)/bin/python -m ipu_utils.fetch_weights --model-name $(MODEL) $(FETCH_ARGS)

test: setup $(VENV)/.tested  ## the plain test suite: 5 to 10 minutes; the first time it installs what the tests need, later no network
	@echo "Running the plain suite: 5 to 10 minutes on two cores, no network."
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: setup $(VENV)/.tested  ## the tests that take longer
	$(VENV)/bin/python -m pytest -m slow $(PYTEST_ARGS)

# The IPU software's Python and TensorFlow, in an environment of its own. PYTHON38 names the interpreter.
VENV38 ?= .venv38
PYTHON38 ?= python3.8

$(VENV38)/.installed: tests/requirements-tf26.txt tests/requirements.txt requirements.txt requirements-runtime.txt
	$(PYTHON38) -m venv $(VENV38)
	$(VENV38)/bin/python -m pip install $(PIP_ARGS) -r tests/requirements-tf26.txt -r requirements.txt
	@touch $@

test-tf26-setup: $(VENV38)/.installed
	@$(MAKE) --no-print-directory nms BUILD_PYTHON="$(abspath $(VENV38)/bin/python)"

test-tf26: test-tf26-setup  ## the plain suite on Python 3.8 and TensorFlow 2.6.5
	$(VENV38)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

# Of the slow tests those of the IPU, whose Python and TensorFlow these are; the others would tell nothing new.
test-slow-tf26: test-tf26-setup  ## the slow tests of the IPU on Python 3.8 and TensorFlow 2.6.5
	$(VENV38)/bin/python -m pytest -m slow $(PYTEST_ARGS) tests/ipu

reliability: setup $(VENV)/.tested  ## play every case of tests/reliability, fuzz, and write docs/RELIABILITY.md
	RELIABILITY_TABLE=docs/RELIABILITY.md $(VENV)/bin/python -m pytest tests/reliability/test_reliability.py tests/fuzz/test_fuzz.py -n 0
	PYTHONPATH=.:tests $(VENV)/bin/python -W ignore -m fuzz --count $(FUZZ_COUNT) --record docs/fuzz.json

lint: $(VENV)/.tested lint-codelets  ## style; codelets without a warning where a clang is found
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# popc is a clang, so another clang warns of what popc would. Debian's will do, or the wheel `ziglang` in the environment.
CODELETS ?= NMS/codelet.cpp tests/poplar_cases/codelets.cpp
CLANG ?= $(or $(firstword $(wildcard $(addsuffix /clang++*,$(subst :, ,$(PATH))))), \
  $(shell $(VENV)/bin/python -c 'import ziglang' 2>/dev/null && echo $(VENV)/bin/python -m ziglang c++))
CLANGFLAGS := -std=c++14 -Wall -Wextra -Werror -fno-exceptions -fno-rtti -INMS -Itests/poplar_model/include

lint-codelets:
	@clang='$(strip $(CLANG))'; if [ -z "$$clang" ]; then \
	  echo "codelets: not checked, no clang was found (apt-get install clang, or pip install ziglang)"; exit 0; fi; \
	object=$$(mktemp) && trap 'rm -f "$$object"' EXIT; \
	for codelet in $(CODELETS); do \
	  echo "$$clang $(CLANGFLAGS) $$codelet"; $$clang $(CLANGFLAGS) -c $$codelet -o $$object || exit 1; done

sanitize:  ## C++ tests of the NMS under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory -C NMS sanitize

test-aarch64:  ## the host library for 64-bit ARM: cross-compiled, its C++ tests run in qemu
	@$(MAKE) --no-print-directory -C NMS aarch64

clean:  ## remove what was built, not the environments
	@for folder in NMS tests/poplar_model benchmarks/nms_poplar; do \
	  $(MAKE) --no-print-directory -C $$folder clean || exit 1; done

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*  ## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
