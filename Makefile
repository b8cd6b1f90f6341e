# The commands of this project. `make` alone says what there is.
#
#   make run                       everything a shop needs, on this machine
#   make test ARGS='-run Checkout' the tests, with the race detector, against real servers
#   make bench ARGS='--json'       the measurements

SHELL := /bin/bash
.DEFAULT_GOAL := help

BINARY := bin/millrace
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PACKAGES ?= ./...
ARGS ?=

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install PostgreSQL and Redis (or Valkey) if they are missing
	@scripts/deps.sh run

.PHONY: build
build: ## leave the static binary in bin/millrace
	@scripts/deps.sh build
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BINARY) ./cmd/millrace

.PHONY: run
run: deps build ## install what is missing, build, and run a shop with all its servers
	@exec $(BINARY) up $(ARGS)

.PHONY: test
test: ## install what is missing and run every test (ARGS for go test, PACKAGES to choose)
	@scripts/deps.sh test
	CGO_ENABLED=1 go run ./internal/devstack/stacktest/cmd/teststack -- go test -race -timeout 15m $(ARGS) $(PACKAGES)

.PHONY: bench
bench: deps build ## measure, with a baseline beside each figure
	@exec $(BINARY) bench $(ARGS)

.PHONY: lint
lint: ## run the linters, at the version that is pinned
	@scripts/lint.sh $(ARGS)

.PHONY: fmt
fmt: ## format the code
	@scripts/gofiles.sh | xargs gofmt -w

.PHONY: generate
generate: ## write the generated code anew
	go generate ./graph/...

.PHONY: check-generated
check-generated: ## fail if the generated code is not what would be generated now
	@scripts/check-generated.sh
