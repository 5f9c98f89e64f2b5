# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Fresh: Debian 12, root, git, make and Rust. `make setup` installs the rest from Debian's packages.

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

STAGE := tests/scripts/stage
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup build images proxy-image demo test test-fast test-e2e test-cluster conformance cluster cluster-programs lint fmt soak campaign bench bench-streams crds capabilities clean

help:
	@echo 'make demo               build Weft and watch a small shop run through it (root; SECONDS=20 for a bounded run)'
	@echo 'make test               every stage: test-fast, test-e2e, test-cluster'
	@echo 'make conformance        the Gateway API suite in a real Kubernetes; its report becomes docs/conformance/report.yaml'
	@echo 'make cluster            a Kubernetes of two nodes on this machine, with the images as built now, until Ctrl-C'
	@echo 'make lint               fmt, clippy, cargo-deny'
	@echo 'make images             the images of proxy and control plane, under target/images (REGISTRY=registry.example/weft)'
	@echo 'make bench              CPU per request beside Envoy and HAProxy; results under bench/results'
	@echo 'make campaign           the property tests, with CASES=20000 new inputs each'
	@echo 'make bench-streams      memory that an idle stream costs the control plane'
	@echo 'make soak TEST=x N=20   one end-to-end test, N times with a core kept busy (SUITE=cluster: of that suite)'

setup:
	@tests/scripts/setup

build: setup
	$(CARGO) build --workspace --bins --locked

# Released and static, without a container engine.
REGISTRY ?= docker.io/weft
images: setup
	manifests/images/build $(TARGET)/images $(REGISTRY)

# Tests in a cluster have the proxy in the image that people get, and the control plane as it was built for them: the other
# image takes as long again. While working, `cargo test --test cluster` has both as they were built.
proxy-image: setup
	manifests/images/build $(TARGET)/e2e/images docker.io/weft proxy
test-cluster conformance: export WEFT_IMAGES = $(abspath $(TARGET)/e2e/images)

demo: build
	@manifests/demo/run $(SECONDS)

test: test-fast test-e2e test-cluster

# The same inputs to the property tests each time: new ones are for `make campaign`, which is nobody's gate.
test-fast: export PROPTEST_RNG_SEED = 20260101
test-fast: setup lint
	$(STAGE) test-fast $(CARGO) test --workspace --locked

# The same features as the unit tests' build, so that nothing is compiled twice.
test-e2e: setup
	$(CARGO) build --workspace --bins --tests --locked
	tests/scripts/previous-release
	$(STAGE) test-e2e $(CARGO) test --workspace --locked --test e2e -- --test-threads=2

# In a real Kubernetes: that of KUBECONFIG, or one that is built (minutes, once) and started here.
test-cluster: cluster-programs proxy-image
	$(CARGO) build --workspace --bins --tests --locked
	$(STAGE) test-cluster $(CARGO) test --workspace --locked --test cluster -- --test-threads=2

# The official suite of the Gateway API, likewise.
conformance: cluster-programs proxy-image
	tests/scripts/cached-go tests/conformance
	tests/scripts/cached-go tests/conformance/echo-advanced
	$(CARGO) build --workspace --bins --tests --locked
	$(STAGE) conformance $(CARGO) test --workspace --locked --test conformance

cluster: cluster-programs
	$(CARGO) build --workspace --bins --locked
	tests/cluster/images $(TARGET)/e2e/cluster/images $(TARGET)/debug
	tests/cluster/up $(TARGET)/e2e/cluster/images

cluster-programs: setup
ifndef KUBECONFIG
	tests/scripts/setup cluster
	tests/cluster/binaries
	tests/scripts/cached-go tests/cluster/coredns
	tests/scripts/cached-go tests/helm
endif

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --test e2e --test cluster --test conformance --locked -- -D warnings # not among all targets: `test = false`
	tests/scripts/deny

fmt:
	$(CARGO) fmt --all

crds:
	$(CARGO) run --locked -p weft-api --example crds

# docs/capabilities.md, from the schemas and the golden cases.
capabilities:
	UPDATE_CAPABILITIES=1 $(CARGO) test --workspace --locked --test capabilities

soak: build
	tests/scripts/soak '$(TEST)' '$(N)' '$(SUITE)'

campaign: setup
	PROPTEST_CASES=$(CASES) $(CARGO) test --workspace --locked --no-fail-fast --lib --test incremental

bench: setup
	bench/run

# Memory per idle stream of the control plane; `make bench-streams STREAMS=10000 SERVICES=10000`
STREAMS ?= 2000
SERVICES ?= 10000
bench-streams: build
	ulimit -n 65536; $(TARGET)/debug/weft-idle-streams $(STREAMS) $(SERVICES)

clean:
	$(CARGO) clean
