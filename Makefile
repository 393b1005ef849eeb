# Everything one does with this repository. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
LISTEN ?= 127.0.0.1:8000
DATA ?= data
DATA_MONGO ?= data-mongo
PORT_MONGO ?= 27017

PROFILE ?= release
COMPOSE ?= $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose) \
	--file deploy/compose.yaml

DENY_VERSION := 0.20.2
DENY := target/tools/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
DEB_VERSION := 3.8.0
DEB := target/tools/cargo-deb-$(DEB_VERSION)/bin/cargo-deb

BOOK_VERSION := 0.5.2
BOOK := target/tools/mdbook-$(BOOK_VERSION)/bin/mdbook

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build and start the service (LISTEN=127.0.0.1:8000 DATA=data)
	$(CARGO) run --release --locked -- serve --listen $(LISTEN) --data $(DATA)

.PHONY: run-mongo
run-mongo: servers ## The same on a MongoDB of its own (DATA_MONGO=data-mongo PORT_MONGO=27017)
	$(CARGO) build --release --locked --bin ipam --example on_mongod
	target/release/examples/on_mongod $(DATA_MONGO) $(PORT_MONGO) \
		target/release/ipam serve --listen $(LISTEN)

.PHONY: image
image: ## Build the container image `ipam` (PROFILE=release)
	docker build --file deploy/Dockerfile --tag ipam --build-arg PROFILE=$(PROFILE) \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml) \
		--build-arg REVISION=$$(git rev-parse HEAD) .

.PHONY: up
up: image ## Start ipam, MongoDB and NATS in containers on http://127.0.0.1:8000
	$(COMPOSE) up --detach

.PHONY: down
down: ## Stop those; their data stays
	$(COMPOSE) down

.PHONY: servers
servers: ## Fetch the real servers that tests start, into target/servers
	tests/servers/fetch

.PHONY: tools
tools: $(DENY) $(DEB) ## Install what checks and packages are made with, into target/tools

.PHONY: deb
deb: $(DEB) ## Build the Debian package, into target/debian
	$(DEB) --locked --compress-system

# Consul's tests mostly wait (18 s of CPU in 93): so four at once, beside those of containers. The others
# compute, and their bounds in time want the processors for themselves.
BESIDE := consul docker
ALONE := $(filter-out $(BESIDE),$(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)) \
	$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)))

.PHONY: test
test: servers $(DEB) ## Run every test
	$(CARGO) test --locked --no-run
	$(CARGO) test --locked --lib --bins $(ALONE:%=--test %)
	$(CARGO) test --locked --doc
	$(MAKE) --no-print-directory --jobs 2 --output-sync $(BESIDE:%=test-%)

.PHONY: test-consul
test-consul:
	$(CARGO) test --locked --test consul -- --test-threads 4

.PHONY: test-docker
test-docker:
	$(CARGO) test --locked --test docker

# What needs a server is in a binary of its own, or in a module of this name.
.PHONY: test-fast
test-fast: ## Run the tests that need no server: the embedded store only
	$(CARGO) test --locked --lib --bins --test tidy --test program --test api --test store \
		--test durability --test allocation --test relay --test hooks --test book -- --skip on_mongo

.PHONY: bench
bench: servers ## Measure: memory and bitmap in process, then the service over HTTP, on both stores (minutes)
	$(CARGO) test --release --locked --test memory -- --nocapture
	$(CARGO) bench --locked
	benches/service

.PHONY: check
check: fmt-check lint deny doc test ## Everything that must hold before a change is taken

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --check

.PHONY: lint
lint: ## Run clippy; a warning is an error
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a broken link is an error
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: deny
deny: $(DENY) ## Check licences, banned crates and where crates come from
	$(DENY) --locked check --hide-inclusion-graph bans licenses sources

# Apart from `deny`: it clones the RustSec database, which not every machine that builds can reach.
.PHONY: deny-advisories
deny-advisories: $(DENY) ## Check for crates with known vulnerabilities (needs github.com)
	$(DENY) --locked check advisories

# Not optimised: they run for a second and so build in about a minute. (cargo-deb leaves it to others to
# compress.)
UNOPTIMISED := CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

$(DENY):
	$(UNOPTIMISED) $(CARGO) install --quiet --locked --root $(@D)/.. --no-default-features \
		cargo-deny@$(DENY_VERSION)

$(DEB):
	$(UNOPTIMISED) $(CARGO) install --quiet --locked --root $(@D)/.. cargo-deb@$(DEB_VERSION)

# Not part of `check`: tests hold the book true, and this makes pages of it.
.PHONY: book
book: $(BOOK) ## Build the book of docs/ into target/book
	$(BOOK) build docs

$(BOOK):
	$(UNOPTIMISED) $(CARGO) install --quiet --locked --root $(@D)/.. --no-default-features \
		mdbook@$(BOOK_VERSION)
