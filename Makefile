# OriginChain. `make help` lists the targets.

SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Builds and tests are pure Go; only the race detector needs a C compiler.
export CGO_ENABLED ?= 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w \
	-X originchain/shared/telemetry.Version=$(VERSION) \
	-X originchain/shared/telemetry.Commit=$(COMMIT)

# Every command an operator runs, as far as it exists.
BINARIES := $(patsubst %/main.go,%,$(wildcard \
	writer/cmd/*/main.go follower/cmd/*/main.go lambdas/local/cmd/*/main.go \
	scripts/waldump/main.go scripts/oc-pitr/main.go scripts/promote/main.go scripts/oc-subscribers/main.go))

# Packages to test, and what to tell `go test` about them.
PKG      ?= ./...
GOTEST   ?=
# Simulation: SEED is the first seed, N how many.
SEED     ?= 1
N        ?= 1
# How long each fuzz target runs.
FUZZTIME ?= 10s
# Arguments of demo and bench, such as ARGS=--help.
ARGS     ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: toolchain ## build every binary into bin/
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(BINARIES))
	@ls -1 bin | sed 's|^|bin/|'

# `go run` ends with 1 where its program was stopped by Ctrl-C and ended well.
bin/demo: toolchain
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o $@ ./scripts/demo

bin/promote: toolchain
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o $@ ./scripts/promote

# The functions that run on AWS. What is built depends on the sources and the toolchain
# alone: no paths, no version of the working copy, no build id. Who runs them is another
# user, whatever the umask is here; the CDK knows a changed file by its time.
LAMBDAS       := $(patsubst lambdas/%/cmd,%,$(wildcard lambdas/*/cmd))
LAMBDAS       := $(filter-out local,$(LAMBDAS))
LAMBDA_DIR    ?= bin/lambdas
LAMBDA_GOARCH ?= arm64

.PHONY: lambdas
lambdas: toolchain ## build the functions that run on AWS into bin/lambdas/<name>/bootstrap, byte for byte the same each time
	@for name in $(LAMBDAS); do \
		GOOS=linux GOARCH=$(LAMBDA_GOARCH) CGO_ENABLED=0 go build -tags lambda.norpc -trimpath -buildvcs=false -ldflags '-s -w -buildid=' \
			-o $(LAMBDA_DIR)/$$name/bootstrap ./lambdas/$$name/cmd/$$name; \
		chmod 755 $(LAMBDA_DIR)/$$name $(LAMBDA_DIR)/$$name/bootstrap; \
		echo $(LAMBDA_DIR)/$$name/bootstrap; \
	done

.PHONY: check
check: toolchain ## formatting, vet, dependencies as pinned, the shape of the tree
	@scripts/check

.PHONY: test
test: toolchain ## run every test
	@PKG='$(PKG)' scripts/test $(GOTEST)

.PHONY: race
race: toolchain ## run every test with the race detector (needs a C compiler)
	@PKG='$(PKG)' CGO_ENABLED=1 scripts/test -race $(GOTEST)

.PHONY: lint
lint: toolchain ## run the linters, pinned in tools.mod
	go tool -modfile=tools.mod golangci-lint run

.PHONY: fmt
fmt: toolchain ## format the Go files
	gofmt -w $$(git ls-files '*.go')

.PHONY: golden
golden: toolchain ## rewrite the golden files; read the diff before you commit it
	go test -count=1 -run Golden $$(git grep -l 'flag.Bool("update"' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's|^|./|') -update

.PHONY: proto
proto: toolchain ## generate the Go code of every .proto file; commit what changes
	go run ./scripts/protogen

.PHONY: fuzz
fuzz: toolchain ## run every fuzz target for FUZZTIME
	@FUZZTIME='$(FUZZTIME)' scripts/fuzz

.PHONY: sim
sim: toolchain ## crash the engine at every disk call: SEED= first seed, N= how many
	go test ./test/sim -run Sim -count=1 -timeout 0 -v -args -seed=$(SEED) -n=$(N)

.PHONY: kill9
kill9: build ## kill -9 a server under load again and again (ARGS="--rounds 50 --seed 7")
	go run ./scripts/kill9 $(ARGS)

.PHONY: restores
restores: toolchain ## restore recorded histories to N (500) random frames and moments of each line
	go test ./test/pitr -run EveryPoint -count=1 -timeout 0 -v -args -points=$(if $(filter 1,$(N)),500,$(N))

.PHONY: drills
drills: toolchain ## every failover drill, nodes in network namespaces, and those of a deployment; SEED= what strikes where (ARGS="-run Zombie")
	go test ./test/drills -count=1 -timeout 0 -v $(ARGS) -args -all -seed=$(SEED)
	go test ./test/awsdrill -count=1 -timeout 0 -v $(ARGS) -args -all

.PHONY: bench
bench: build ## measure against the targets and put the figures into README.md
	go run ./test/bench --write-readme README.md $(ARGS)

.PHONY: demo
demo: build bin/demo ## have an instance up, load real data, show what it can do; Ctrl-C ends it
	bin/demo $(ARGS)

.PHONY: demo-restore
demo-restore: build bin/demo ## delete a table, restore to the second before, show the rows again
	bin/demo restore $(ARGS)

.PHONY: story
story: build ## up, load, kill the writer, watch, query, restore to before: the whole story, in 10 seconds
	scripts/story $(ARGS)

.PHONY: drill
drill: build ## kill the writer of an instance under load and see what clients see (ARGS="--fault stop --runs 10 --seed 1")
	bin/oc-control up --dir var/drill --detach
	@result=0; bin/oc-control drill --dir var/drill $(ARGS) || result=$$?; bin/oc-control down --dir var/drill; exit $$result

# What EC2 machines run, for the architectures that they have.
MACHINES := $(patsubst %/main.go,%,$(wildcard writer/cmd/*/main.go scripts/waldump/main.go scripts/oc-pitr/main.go))

.PHONY: machines
machines: toolchain ## build what EC2 machines run into bin/linux-arm64 and bin/linux-amd64
	@for arch in arm64 amd64; do \
		mkdir -p bin/linux-$$arch && \
		GOOS=linux GOARCH=$$arch CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/linux-$$arch/ $(addprefix ./,$(MACHINES)) || exit 1; \
	done
	@ls -1d bin/linux-*/*

.PHONY: synth
synth: $(if $(PROGRAMS),,machines) $(if $(FUNCTIONS),,lambdas) ## synthesize every tier and option into cdk.out/, twice, compare, and hold them to cdk-nag's and Control Tower's rules (PROGRAMS= FUNCTIONS= directories that have the programs)
	@PROGRAMS='$(PROGRAMS)' FUNCTIONS='$(or $(FUNCTIONS),$(LAMBDA_DIR))' scripts/synth

.PHONY: clean
clean: ## remove what was built (the demo's data in var/ stays)
	rm -rf bin cdk.out

.PHONY: toolchain
toolchain:
	@scripts/toolchain
