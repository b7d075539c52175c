# Every task is `cargo xtask …`; this file only says which come together. `make help` lists them.

# Heavy builds live outside the checkout, so that a new checkout finds them.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/virga
export CARGO_TARGET_DIR ?= $(CACHE)/target

CARGO ?= cargo
XTASK := $(CARGO) xtask

# Removing a lab takes seconds; more than this means that it hangs.
LAB_DOWN_LIMIT := 120

# Tests that need a whole machine: the lab itself, and Virga in it. They share the lab, so one after the other.
REAL := virga-lab virga-e2e

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint unit drift artifacts real gen bench clean deps

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps ## Show it: a Kubernetes on this machine, Virga in it, an Instance's console
	$(XTASK) demo

test: lint unit drift real ## Check everything that CI checks

lint: deps ## Check format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

# Tests wait for daemons more than they work: there are more at once than processors.
unit: export RUST_TEST_THREADS ?= 4
unit: deps ## Run the tests that need no cluster
	$(CARGO) test --workspace $(addprefix --exclude ,$(REAL))

gen: ## Regenerate all that is generated and committed
	$(XTASK) gen

bench: deps ## Measure Virga in the lab that `make demo` left; writes docs/performance.md
	$(XTASK) bench

clean: ## Take the lab away; what was built stays in the cache
	$(CARGO) build --quiet --package xtask
	timeout $(LAB_DOWN_LIMIT) $(XTASK) lab down

# Internal.

deps:
	@$(XTASK) deps

drift:
	$(XTASK) gen --check

artifacts: deps
	$(XTASK) guest
	$(XTASK) image

real: artifacts
	$(CARGO) test --package virga-lab --lib
	@# By target and not by package: the same features as above, so nothing is compiled twice.
	$(CARGO) test --workspace --test lab --test 'api_*' -- --test-threads=1
