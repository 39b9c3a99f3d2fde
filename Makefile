# The two commands of the README; each brings its own environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# What only the extras need lies beside .venv, which stays as it is: the clients in one, which sees
# .venv's packages too; in another the Triton server, whose Python backend wants NumPy 1.
EXTRAS := $(VENV)-extras
TRITON := $(VENV)-triton

.PHONY: demo test test-extras benchmark judge recipe clean plugin gpu-check

demo: $(READY)
	$(BIN)/hsnet-trt demo --out demo_output

test: $(READY)
	$(BIN)/pytest -n auto --dist loadgroup

# Speed beside PyTorch on this machine: benchmarks/results/<machine>.json and .md, docs/benchmark.png.
# On a quiet machine: it says so itself where others used it meanwhile.
benchmark: $(READY)
	$(BIN)/hsnet-trt benchmark --readme README.md

# Masks judged on 108 photographs that nothing was learned from: runs/judge/table.md. Half an hour on
# two cores; goes on where it was stopped. CHECKPOINT=runs/recipe/learned/model.pt, ARGS='--form clean'.
CHECKPOINT ?= shipped
judge: $(READY)
	$(BIN)/python -m hsnet_trt.benchmarks.real_v1.judge $(CHECKPOINT) --out $(or $(OUT),runs/judge) $(ARGS)

# The model that comes along, learned anew: gathers its pictures, then learns for MINUTES on a GPU (6) or
# on two cores (90). On a card without a network: docs/recipe.md.
recipe: $(READY)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[recipe]'
	$(BIN)/python -m hsnet_trt.benchmarks.recipe.demo_model $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

$(READY): setup.cfg constraints.txt
	@echo "installing into $(VENV): PyTorch, ONNX Runtime, TensorRT for RTX; some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

# Triton, Ray, S3, labels, the page in a browser: each installed if it can be, and its tests skipped,
# with the reason, if it cannot.
test-extras: $(EXTRAS)/.ready $(TRITON)/.ready
	$(EXTRAS)/bin/python -m pytest tests/extras || [ $$? -eq 5 ]  # 5: every file was skipped

GET_CHROMIUM := apt-get install --yes chromium
GET_GSTREAMER := apt-get install --yes --no-install-recommends gcc pkg-config libcairo2-dev \
  libgirepository1.0-dev gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 \
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good

$(EXTRAS)/.ready: $(READY)
	@echo "installing the extras into $(EXTRAS)"
	$(PYTHON) -m venv $(EXTRAS)
	cd $(EXTRAS)/lib/python3*/site-packages && \
	  echo "import site; site.addsitedir('$$(echo $(abspath $(VENV))/lib/python3*/site-packages)')" > below.pth
	for part in '--editable .[triton]' '--editable .[sweep]' 'moto[s3,server]' \
	  '--editable .[labels]' '--editable .[supervision]' playwright; do \
	  $(EXTRAS)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt $$part \
	  || echo "this cannot be installed here, and its tests are skipped: $$part"; done
	@command -v chromium > /dev/null || { $(GET_CHROMIUM) || { apt-get update && $(GET_CHROMIUM); }; } \
	  > /dev/null 2>&1 || echo "no Chromium can be installed here: the page's tests are skipped"
	@{ { $(GET_GSTREAMER) || { apt-get update && $(GET_GSTREAMER); }; } \
	  && $(EXTRAS)/bin/python -m pip install --quiet 'PyGObject<3.51'; } > /dev/null 2>&1 \
	  || echo "no GStreamer can be installed here: the cameras' tests are skipped"
	touch $@

$(TRITON)/.ready: $(READY)
	@echo "installing a Triton server into $(TRITON)"
	($(PYTHON) -m venv $(TRITON) \
	  && $(TRITON)/bin/python -m pip install --quiet --no-compile --editable . 'numpy<2' \
	  && $(TRITON)/bin/python -m pip install --quiet --no-compile --no-deps nvidia-pytriton==0.7.0 \
	  && touch $@) || echo "no Triton server can be installed here: its tests are skipped"

clean:
	rm -rf $(VENV) $(EXTRAS) $(TRITON) build dist demo_output *.egg-info

# The correlation op for TensorRT: build/plugin/libhsnet_correlation.so, the compiled kernels of the
# Python plugin, and those that resize frames and draw masks. Needs nvcc, cmake and NvInfer.h (TENSORRT_INCLUDE_DIR where it is not found).
CUDACXX ?= $(or $(shell command -v nvcc),/usr/local/cuda/bin/nvcc)
plugin: export CUDACXX := $(CUDACXX)
plugin:
	cmake -S trt_plugins/cpp -B build/plugin -D HSNET_ARCHITECTURES="$(HSNET_ARCHITECTURES)"
	cmake --build build/plugin --parallel
	PYTHONPATH=. $(PYTHON) -m hsnet_trt.trt_plugins.compile_kernels
	PYTHONPATH=. $(PYTHON) -m hsnet_trt.runtime.frames.frame_kernels

# PART=plugin, runtime, benchmark (ARGS=--full for all of it) or network (with BUNDLE=folder). Runs from the source tree with the Python that is there; says so without a GPU.
PART ?= plugin
gpu-check:
	PYTHONPATH=.:$(PYTHONPATH) $(PYTHON) -m hsnet_trt.benchmarks.gpu_check.$(PART) $(ARGS)
