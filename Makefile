# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Fresh: Debian 12, root, git, make and Rust, and for the tests Go 1.26. `make setup` installs the rest from Debian's packages.

SHELL := /bin/bash
CARGO ?= cargo
# `make demo SECONDS=20` runs without a terminal, prints the table and fails where an expectation does not hold.
SECONDS ?=
# `make soak TEST=name N=20 SUITE=cluster`
TEST ?=
N ?= 20
SUITE ?= e2e
# `make campaign CASES=20000`
CASES ?= 20000

# A step's output is kept and its time noted (`tests/scripts/report`); a stage is a step that counts tests.
STEP := tests/scripts/step
STAGE := tests/scripts/stage
# Clippy in the compiler's place, for what is built to be tested.
LINTED := tests/scripts/linted
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The programs of a mesh, without those of the tests and benchmarks.
MESH := weft weft-control-plane weft-proxy weft-local
# Not among all targets (`test = false`): they need root and minutes.
SUITES := e2e cluster conformance

.PHONY: help setup build images demo test test-fast test-e2e test-cluster conformance ahead build-tests cluster-setup cluster-programs conformance-programs proxy-image cluster lint fmt soak campaign bench bench-streams crds capabilities clean

help:
	@echo 'make demo               build Weft and watch a small shop run through it (root; SECONDS=20 for a bounded run)'
	@echo 'make test               every stage: test-fast, test-e2e, test-cluster'
	@echo 'make conformance        the Gateway API suite in a real Kubernetes; its report becomes docs/conformance/report.yaml'
	@echo 'make cluster            a Kubernetes of two nodes on this machine, with the images as built now, until Ctrl-C'
	@echo 'make build              the four programs of a mesh, in target/debug'
	@echo 'make build-tests        everything that tests run, formatted and linted, in target/debug'
	@echo 'make lint               fmt, clippy, cargo-deny'
	@echo 'make images             the images of proxy and control plane, under target/images (REGISTRY=registry.example/weft)'
	@echo 'make bench              CPU per request beside Envoy and HAProxy; results under bench/results'
	@echo 'make campaign           the property tests, with CASES=20000 new inputs each'
	@echo 'make bench-streams      memory that an idle stream costs the control plane'
	@echo 'make soak TEST=x N=20   one end-to-end test, N times with a core kept busy (SUITE=cluster: of that suite)'

setup:
	@tests/scripts/setup

build: setup
	$(CARGO) build --locked --bins $(addprefix -p ,$(MESH))

# Released and static, without a container engine.
REGISTRY ?= docker.io/weft
images: setup
	manifests/images/build $(TARGET)/images $(REGISTRY)

demo: setup
	@manifests/demo/run $(SECONDS)

# What the cluster stages build is begun at once, in the time that compiling and the other suites leave.
test: setup cluster-setup
	tests/scripts/beside $(MAKE) --no-print-directory ahead -- $(MAKE) --no-print-directory test-fast test-e2e test-cluster
ahead: cluster-programs proxy-image conformance-programs

# Formatting checked, and all crates and tests compiled and linted in one go: what every stage then runs.
build-tests: setup
	$(STEP) format $(CARGO) fmt --all --check
	$(STEP) build $(LINTED) $(CARGO) build --workspace --all-targets --locked
	$(STEP) build-suites $(LINTED) $(CARGO) build --workspace $(addprefix --test ,$(SUITES)) --locked

lint: build-tests
	$(STEP) licences tests/scripts/deny

# The same inputs to the property tests each time: new ones are for `make campaign`, which is nobody's gate.
test-fast: export PROPTEST_RNG_SEED = 20260101
test-fast: lint
	$(STAGE) test-fast $(LINTED) $(CARGO) test --workspace --locked

test-e2e: build-tests
	$(STEP) previous-release tests/scripts/previous-release
	$(STAGE) test-e2e $(LINTED) $(CARGO) test --workspace --locked --test e2e -- --test-threads=2

# Tests in a cluster have the proxy in the image that people get, and the control plane as it was built for them: the other
# image takes as long again. While working, `cargo test --test cluster` has both as they were built.
test-cluster conformance: export WEFT_IMAGES = $(abspath $(TARGET)/e2e/images)

# In a real Kubernetes: that of KUBECONFIG, or one that is built (minutes, once) and started here.
test-cluster: build-tests cluster-setup cluster-programs proxy-image
	$(STAGE) test-cluster $(LINTED) $(CARGO) test --workspace --locked --test cluster -- --test-threads=2

# The official suite of the Gateway API, likewise.
conformance: build-tests cluster-setup cluster-programs conformance-programs proxy-image
	$(STAGE) conformance $(LINTED) $(CARGO) test --workspace --locked --test conformance

# Without debug information, which only `make images` keeps, in target/, for whoever looks into a crash.
proxy-image: export CARGO_PROFILE_RELEASE_DEBUG = false
proxy-image: setup
	$(STEP) proxy-image manifests/images/build $(TARGET)/e2e/images docker.io/weft proxy

cluster-setup: setup
ifndef KUBECONFIG
	@tests/scripts/setup cluster
endif

# Also for a cluster that is there already: Helm, and the tests that start an API server of their own.
cluster-programs: cluster-setup
	$(STEP) cluster-programs tests/cluster/binaries

conformance-programs: setup
	$(STEP) conformance-suite tests/scripts/cached-go tests/conformance
	$(STEP) conformance-echo tests/scripts/cached-go tests/conformance/echo-advanced

cluster: cluster-programs
	$(CARGO) build --workspace --bins --locked
	tests/cluster/images $(TARGET)/e2e/cluster/images $(TARGET)/debug
	tests/cluster/up $(TARGET)/e2e/cluster/images

fmt:
	$(CARGO) fmt --all

crds:
	$(CARGO) run --locked -p weft-api --example crds

# docs/capabilities.md, from the schemas and the golden cases.
capabilities:
	UPDATE_CAPABILITIES=1 $(CARGO) test --workspace --locked --test capabilities

soak: build-tests
	tests/scripts/soak '$(TEST)' '$(N)' '$(SUITE)'

campaign: setup
	PROPTEST_CASES=$(CASES) $(CARGO) test --workspace --locked --no-fail-fast --lib --test incremental

bench: setup
	bench/run

# Memory per idle stream of the control plane; `make bench-streams STREAMS=10000 SERVICES=10000`
STREAMS ?= 2000
SERVICES ?= 10000
bench-streams: setup
	$(CARGO) build --workspace --bins --locked
	ulimit -n 65536; $(TARGET)/debug/weft-idle-streams $(STREAMS) $(SERVICES)

clean:
	$(CARGO) clean
