# The two commands of the README; each brings its own environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test clean

demo: $(READY)
	$(BIN)/hsnet-trt demo --out demo_output

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/pytest -n auto --dist loadgroup

$(READY): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo_output *.egg-info
