# `make` lists what there is. Rust, Go, git and a C compiler are needed, and for the clusters Linux
# and root; what else is missing is installed from Debian, or built once into the cache.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

CACHE := $(or $(HELIOSTAT_CACHE),$(addsuffix /heliostat,$(XDG_CACHE_HOME)),$(HOME)/.cache/heliostat)
TARGET := $(or $(CARGO_TARGET_DIR),target)

IMAGE ?= heliostat.test/heliostat:e2e
ENGINE ?= $(firstword $(foreach e,docker podman buildah,$(shell timeout 10 $(e) info >/dev/null 2>&1 && echo $(e))) cargo)

DENY_VERSION := 0.20.2
DENY_ROOT := $(CACHE)/cargo-deny-$(DENY_VERSION)

# Must be the library's, so it is told there.
GUNGRAUN_VERSION := $(shell sed -n 's/^gungraun = "=\(.*\)"$$/\1/p' Cargo.toml)
GUNGRAUN_ROOT := $(CACHE)/gungraun-runner-$(GUNGRAUN_VERSION)

CARGO_MUTANTS_VERSION := 27.1.0
CARGO_MUTANTS_ROOT := $(CACHE)/cargo-mutants-$(CARGO_MUTANTS_VERSION)

# What the tests have printed; e2e/run writes there, too.
RESULTS := dist/results

SCRIPTS = $(shell grep -rlI '^\#!/usr/bin/env bash' .ci benches e2e tests)

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z].*:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Build
.PHONY: build
build: ## The program, optimised: target/release/heliostat
	cargo build --release --locked --bin heliostat

.PHONY: image
image: ## The image dist/heliostat.tar. IMAGE=name:tag; ENGINE=docker, podman, buildah, or cargo for none
	@mkdir -p dist
	@$(MAKE) image-by-$(ENGINE)
	@echo "$(IMAGE) is in dist/heliostat.tar ($$(du -h dist/heliostat.tar | cut -f1))"

.PHONY: image-by-docker image-by-podman image-by-buildah image-by-cargo
image-by-docker image-by-podman: image-by-%:
	$* build --file Containerfile --tag $(IMAGE) .
	rm -f dist/heliostat.tar
	$* save --output dist/heliostat.tar $(IMAGE)
image-by-buildah:
	buildah build --file Containerfile --tag $(IMAGE) .
	rm -f dist/heliostat.tar
	buildah push $(IMAGE) docker-archive:dist/heliostat.tar:$(IMAGE)
image-by-cargo: build
	e2e/rig/image dist/heliostat.tar $(IMAGE) --elf $(TARGET)/release/heliostat=/heliostat --user 65532:65532 --cmd '["/heliostat"]'

##@ Try
.PHONY: demo
demo: ## A Service of one real cluster, called by name from a pod of another; leaves both up. GATEWAY=envoy, envoy-gateway, traefik or nodeport
	e2e/demo

.PHONY: clean-demo
clean-demo: ## Removes the demo's clusters
	e2e/demo clean

##@ Test
.PHONY: test
test: lint test-unit instructions deny test-envoy e2e promised ## What a change must pass: lint, test-unit, instructions, deny, test-envoy, e2e, promised

.PHONY: test-all
test-all: lint test-unit instructions deny test-envoy ## The same with every gateway, which takes longer to build
	e2e/run --all
	$(MAKE) promised

.PHONY: test-unit
test-unit: test-simulation ## Unit and property tests, simulation, and that generated files and documents are current; no cluster
	@mkdir -p $(RESULTS)
	cargo test --locked 2>&1 | tee $(RESULTS)/unit.txt

# Optimised, in a folder of its own: target/simulation.
# glibc keeps what was freed: to give it back and take it again for each seed costs a tenth of the time.
SIMULATION := MALLOC_TOP_PAD_=67108864 MALLOC_TRIM_THRESHOLD_=2000000000 cargo test --locked --profile simulation --test simulation

.PHONY: test-simulation
test-simulation: ## The controller in simulated bad weather, by thousands of seeds. HELIOSTAT_SEEDS=2000; HELIOSTAT_SEED=17: that one
	HELIOSTAT_SEEDS=$${HELIOSTAT_SEEDS:-2000} $(SIMULATION)

# With the simulation's profile, whose dependencies are there already.
.PHONY: instructions
instructions: $(GUNGRAUN_ROOT)/bin/gungraun-runner ## Instructions for each mirror, by callgrind: a tenth more than it was fails. Installs valgrind where it is missing
	$(call installed,valgrind)
	@PATH="$(GUNGRAUN_ROOT)/bin:$$PATH" cargo bench --locked --profile simulation --bench instructions || { \
	  echo "instructions: what exceeds its limit takes a tenth more than it did. Where it is meant to: write what is printed, by 300, into" >&2; \
	  echo "  the module counted of benches/instructions/main.rs. What takes them: callgrind_annotate $(TARGET)/gungraun/…/callgrind.*.out" >&2; \
	  exit 1; }

.PHONY: soak
soak: soak-fuzz ## Hours of chance: the controller in simulated bad weather, with ever new seeds. MINUTES=480
	HELIOSTAT_FIRST_SEED=$$(date +%s) HELIOSTAT_SOAK_MINUTES=$(or $(MINUTES),480) $(SIMULATION) storm -- --nocapture

# $(1): a program, and the Debian package that has it.
define installed
	@command -v $(1) >/dev/null || if [[ $$EUID -eq 0 ]] && command -v apt-get >/dev/null; \
	  then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	  else echo "$(1) is missing: install it with this system's package manager" >&2; exit 1; fi
endef

.PHONY: lint
lint: shellcheck ## Formatting, clippy and shellcheck; warnings are errors
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@# --all-targets leaves out what Cargo.toml marks with test = false.
	cargo clippy --locked --test e2e --test envoy --test mutants -- -D warnings

.PHONY: shellcheck
shellcheck: ## The bash scripts; installs shellcheck where it is missing
	$(call installed,shellcheck)
	shellcheck -x -P SCRIPTDIR $(SCRIPTS)
	shellcheck -x -P SCRIPTDIR --check-sourced --severity=warning --exclude=SC2034 e2e/rig/up

.PHONY: deny
deny: $(DENY_ROOT)/bin/cargo-deny ## Licences, banned crates and sources of all dependencies
	$< --locked check bans licenses sources

# Unoptimised: a minute to build instead of many, and it runs for seconds. $(1): name, $(2): version, $(3): where.
define install
	CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false cargo install --locked --debug \
	  --version $(2) --root $(3) --target-dir $(3)/target $(1)
	rm -rf $(3)/target
endef

$(DENY_ROOT)/bin/cargo-deny:
	$(call install,cargo-deny,$(DENY_VERSION),$(DENY_ROOT))

$(GUNGRAUN_ROOT)/bin/gungraun-runner:
	$(call install,gungraun-runner,$(GUNGRAUN_VERSION),$(GUNGRAUN_ROOT))

$(CARGO_MUTANTS_ROOT)/bin/cargo-mutants:
	$(call install,cargo-mutants,$(CARGO_MUTANTS_VERSION),$(CARGO_MUTANTS_ROOT))

.PHONY: e2e
e2e: ## All cases on two real clusters, removed afterwards. TESTS="m01 m02": those; e2e/run --keep to look
	e2e/run $(TESTS)

.PHONY: test-envoy
test-envoy: ## What a real Envoy makes of our xDS; no cluster. HELIOSTAT_ENVOY: its program, if not the rig's
	@mkdir -p $(RESULTS)
	HELIOSTAT_ENVOY=$${HELIOSTAT_ENVOY:-$$(e2e/rig/program envoy)} cargo test --locked --test envoy 2>&1 | tee $(RESULTS)/envoy.txt

.PHONY: promised
promised: ## Whether all tests that docs/promises.md names have passed, by what test-unit, test-envoy and e2e have printed last
	e2e/promised $(RESULTS)/*.txt

# A quarter of an hour; a run that finds something prints the input as bytes.
FUZZ_CASES ?= 20000
.PHONY: soak-fuzz
soak-fuzz: ## Everything that reads bytes of a remote, with FUZZ_CASES changed inputs each from tests/corpus
	HELIOSTAT_FUZZ_CASES=$(FUZZ_CASES) cargo test --locked --lib fuzz::

.PHONY: rig
rig: ## What the clusters are made of: Debian packages, and Kubernetes built from Go modules. GATEWAYS="traefik": that too
	e2e/rig/install
	e2e/rig/build
	$(if $(GATEWAYS),e2e/rig/build $(GATEWAYS))

##@ Test the tests
.PHONY: mutants
mutants: ## Breaks each promise on purpose, as tests/mutants/table.yaml says: a test must notice. MUTANTS="a b": those
	cargo test --locked --test mutants -- $(MUTANTS)

.PHONY: mutants-all
mutants-all: $(CARGO_MUTANTS_ROOT)/bin/cargo-mutants ## Any small change of src/core, then src/apply. SHARD=0/16, SECONDS_AT_MOST=3600, JOBS=1; FILES="src/core/guard.rs": those
	CARGO_MUTANTS=$< tests/mutants/all

##@ Measure
.PHONY: bench
bench: ## Speed, memory and scale, between two API servers; a smoke size of minutes
	benches/run

.PHONY: bench-full
bench-full: ## The same in full, which takes most of an hour: what docs/performance.md is made of
	benches/run --size full

.PHONY: report
report: ## docs/performance.md and its plots, from RAW=dist/bench/<file>.json
	@test -n "$(RAW)" || { echo "report: which raw data? make report RAW=dist/bench/<file>.json" >&2; exit 2; }
	cargo bench --quiet --profile dev --locked --bench report -- $(RAW) --page docs/performance.md

##@ Generated files, which are committed; make test-unit fails when one is old
.PHONY: crds
crds: ## crds/, from src/api
	UPDATE_CRDS=1 cargo test --locked --test crds the_files_are_as_generated

.PHONY: install.yaml
install.yaml: ## config/install.yaml and config/install-exporter.yaml, from crds/ and the rest of config/
	@mkdir -p dist/exporter
	printf '%s\n' 'resources: [../../config]' 'components: [../../config/components/exporter]' >dist/exporter/kustomization.yaml
	kubectl=$$(e2e/rig/program kubectl); \
	$$kubectl kustomize config >dist/install.yaml; \
	$$kubectl kustomize dist/exporter >dist/install-exporter.yaml
	mv dist/install.yaml dist/install-exporter.yaml config/

.PHONY: fields
fields: ## docs/fields.md, from crds/
	UPDATE_DOCS=1 cargo test --locked --test docs the_list_of_fields_is_current

.PHONY: promises
promises: ## docs/promises.md, from the names of the tests
	UPDATE_PROMISES=1 cargo test --locked --test promises the_page_of_promises_is_current
