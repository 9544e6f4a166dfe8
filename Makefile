# What each target does: make help
SHELL      := bash
GO         ?= go
BIN        := bin
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS    := -X github.com/dkvdb/dkv/internal/version.stamped=$(VERSION)
IMAGE      ?= dkv:latest
BASE_IMAGE ?= debian:12

# How cgo finds RocksDB: Debian's archives, linked statically where they are all
# there, or the build below ROCKSDB_PREFIX. The same for build and test, so that
# the cgo packages are compiled once.
WITH_CGO := scripts/cgo-env.sh

# All that is tested with the race detector, once: what shares memory and needs no
# cgo, which would have to be compiled a second time. The rest is tested without.
RACE := ./internal/testkit ./internal/signal ./internal/clock ./internal/conns ./internal/storage/memory ./internal/storage/diskspace ./internal/fsm/... ./internal/replica/... ./internal/cluster/... ./internal/discovery/... ./internal/peer ./internal/server ./internal/ops ./internal/master/... ./internal/route ./internal/ctl/... ./clients/go/...
# What runs the simulation of leases without one of its rules until that shows: it takes
# thousands of runs, each several times as long with the race detector, which the runs of
# all rules have.
MUTANTS := ^TestRules$$

# Quiet, and small beside the nodes that the Java tests start.
MAVEN := MAVEN_OPTS=-Xmx512m mvn -q -B -ntp

.PHONY: help deps test-deps build run cluster test go-test hostile race lint proto bench docker clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

deps: ## install the system packages that building and serving need (Debian; root or sudo)
	scripts/deps.sh build

test-deps: ## install those that tests need besides
	scripts/deps.sh test

build: ## build bin/dkvsrv and bin/dkvctl
	@mkdir -p $(BIN)
	$(WITH_CGO) $(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

run: deps build ## install what is missing, build, and serve with dkvsrv.yaml
	./$(BIN)/dkvsrv --config dkvsrv.yaml

cluster: build ## run three discovery nodes, three masters and two slaves here until Ctrl-C
	@scripts/cluster.sh

# Faults that the host cannot inject are skipped, and listed at the end; with CI=true
# they fail, unless internal/testkit allows them to be skipped.
SKIPPED_FAULTS := $(CURDIR)/build/skipped-faults

# A package may take several times as long as here on a host that is busy.
PATIENCE := -timeout 30m

test: export TEST_SKIPPED_FAULTS = $(SKIPPED_FAULTS)
test: build test-deps ## install what tests need, and run all tests
	@mkdir -p build && rm -f $(SKIPPED_FAULTS)
	$(WITH_CGO) $(GO) vet ./...
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && trap 'exit 130' INT TERM && chmod 755 "$$tmp" && TMPDIR=$$tmp $(MAKE) --no-print-directory go-test
	$(MAVEN) -f clients/java package
	@if [ -s $(SKIPPED_FAULTS) ]; then echo 'Faults that this host could not inject:'; sort -u $(SKIPPED_FAULTS); fi

# Below a temporary folder of their own: a test that is killed, as for a timeout, does not
# remove its folders.
go-test:
	$(WITH_CGO) $(GO) test $(PATIENCE) $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACE))")
	CGO_ENABLED=1 $(GO) test $(PATIENCE) -race -skip '$(MUTANTS)' $(RACE)
	$(GO) test -run '$(MUTANTS)' ./internal/replica/raft/lease

# make hostile HOSTILE='-hostile.hour 1h -run TestMixedLoad' for an hour of mixed load.
HOSTILE ?= -hostile.all -run TestBattery

hostile: ## run every attack of tests/hostile against every kind of node (an hour); the table is build/hostile.md
	@mkdir -p build && rm -f build/hostile.md
	$(WITH_CGO) $(GO) test ./tests/hostile -v -timeout 4h -hostile.table $(CURDIR)/build/hostile.md $(HOSTILE); code=$$?; cat build/hostile.md; exit $$code

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'gofmt -w the files above' >&2; exit 1; }
	$(WITH_CGO) $(GO) vet ./...
	$(WITH_CGO) $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

proto: ## generate the Go code of api/*.proto
	scripts/proto.sh .

bench: build ## run the Go benchmarks
	$(WITH_CGO) $(GO) test -run '^$$' -bench . -benchmem ./...

docker: ## build the image $(IMAGE) on $(BASE_IMAGE), any Debian-like base
	docker build --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION) $(DOCKER_ARGS) -t $(IMAGE) .

clean: ## remove what was built
	rm -rf $(BIN) build clients/java/target extras/ycsb/target
