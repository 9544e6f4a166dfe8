# What each target does: make help
SHELL      := bash
GO         ?= go
BIN        := bin
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION   ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS    := -X github.com/dkvdb/dkv/internal/version.stamped=$(VERSION) -X github.com/dkvdb/dkv/internal/version.stampedRevision=$(REVISION)
# STRIP=1 leaves debugging information and the paths of this machine out of the programs, and
# the Go tool's id, which depends on such paths: builds of a commit are equal.
STRIP      ?=
BUILDFLAGS := $(if $(STRIP),-trimpath -ldflags '$(LDFLAGS) -s -w -buildid=',-ldflags '$(LDFLAGS)')
IMAGE      ?= dkv:latest
BASE_IMAGE ?= debian:12

# Sets how cgo finds RocksDB: Debian's archives, linked statically if all of them
# are installed, or the build below ROCKSDB_PREFIX. Build and test use the same
# values, so that the cgo packages are compiled once.
WITH_CGO := scripts/cgo-env.sh

# The packages that are tested with the race detector, and only with it: those that
# share memory between goroutines and need no cgo, which would have to be compiled a
# second time. All others are tested without it.
RACE := ./internal/testkit ./internal/signal ./internal/clock ./internal/conns ./internal/storage/memory ./internal/storage/diskspace ./internal/fsm/... ./internal/replica/... ./internal/cluster/... ./internal/discovery/... ./internal/peer ./internal/server ./internal/ops ./internal/master/... ./internal/route ./internal/ctl/... ./clients/go/...
# Tests of those packages that run without the race detector, with which they take up to
# ten times as long: nothing in them is shared between goroutines. TestLinearizable runs
# without it as well, with more random inputs.
MODELS := TestLogAgainstModel|TestDeterminism|TestModelLong|TestRequestsOfOthersPushNothingOut|TestBatchesOfHostileRequests
MODELED := ./internal/fsm ./internal/replica/raft/wal ./internal/replica/raft/lease
# The test that removes one rule of the leases after the other from their simulation
# until an error shows.
MUTANTS := ^TestRules$$

# Maven without progress output, and with little memory, since the Java tests start
# nodes as well. It ends before what the optimising compiler would make of it pays: without
# that, a build takes a third of the processor time. The tests run in a JVM of their own.
MAVEN := MAVEN_OPTS='-Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC' mvn -q -B -ntp

.PHONY: help deps test-deps build run cluster test go-test hostile race lint proto bench bench-smoke gobench docker clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "%-11s %s\n", $$1, $$2 }'

deps: ## install the system packages that building and serving need (Debian; root or sudo)
	scripts/deps.sh build

test-deps: ## install the further packages that tests need
	scripts/deps.sh test
	scripts/prometheus.sh

build: ## build bin/dkvsrv and bin/dkvctl
	@mkdir -p $(BIN)
	$(WITH_CGO) $(GO) build $(BUILDFLAGS) -o $(BIN)/ ./cmd/...

run: deps build ## install what is missing, build, and serve with dkvsrv.yaml
	./$(BIN)/dkvsrv --config dkvsrv.yaml

cluster: build ## run three discovery nodes, three masters and two slaves here until Ctrl-C (SECURE=certs: with TLS and tokens)
	@SECURE='$(SECURE)' scripts/cluster.sh

# Tests of faults that this host cannot inject are skipped, and listed at the end. With
# CI=true they fail, unless internal/testkit allows them to be skipped.
SKIPPED_FAULTS := $(CURDIR)/build/skipped-faults

# On a busy host a package may take several times as long as usual. What the race target
# runs is vetted by test or lint, and nothing looks for symbols in the binaries.
TESTFLAGS := -timeout 30m -vet=off -ldflags='-s -w'

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
	$(WITH_CGO) $(GO) test $(TESTFLAGS) $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACE))")
	$(MAKE) --no-print-directory race
	$(GO) test $(TESTFLAGS) -run '^($(MODELS)|TestLinearizable)$$' $(MODELED)
	$(GO) test $(TESTFLAGS) -tags leasebreach -run '$(MUTANTS)' ./internal/replica/raft/lease
	$(MAKE) --no-print-directory bench-smoke

race: ## run the tests that use the race detector
	CGO_ENABLED=1 $(GO) test $(TESTFLAGS) -race -skip '^($(MODELS))$$' $(RACE)

# For an hour of mixed load: make hostile HOSTILE='-hostile.hour 1h -run TestMixedLoad'
HOSTILE ?= -hostile.all -run TestBattery

hostile: ## attack nodes of every role with all of tests/hostile (an hour); the results are in build/hostile.md
	@mkdir -p build && rm -f build/hostile.md
	$(WITH_CGO) $(GO) test ./tests/hostile -v -timeout 4h -hostile.table $(CURDIR)/build/hostile.md $(HOSTILE); code=$$?; cat build/hostile.md; exit $$code

lint: ## run gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'gofmt -w the files above' >&2; exit 1; }
	$(WITH_CGO) $(GO) vet ./...
	$(WITH_CGO) $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

proto: ## generate the Go code of api/*.proto
	scripts/proto.sh .

# A short look at some rows: make bench BENCH_ROUNDS=1 BENCH_SECONDS=1 BENCH_ARGS='-rows put-leader'
BENCH_ROUNDS    ?= 3
BENCH_SECONDS   ?= 4
BENCH_FAILOVERS ?= 20
BENCH_ARGS      ?=

bench: build ## measure DKV beside etcd (if on PATH) and a bare echo for 20 minutes, and write docs/BENCHMARKS.md
	@mkdir -p build/bench
	$(GO) build -o build/bench/ ./tools/bench ./tools/refserver
	build/bench/bench -bin $(BIN) -refserver build/bench/refserver -rounds $(BENCH_ROUNDS) -seconds $(BENCH_SECONDS) -failovers $(BENCH_FAILOVERS) $(BENCH_ARGS)

bench-smoke: ## fail if hot paths allocate more often than tools/benchsmoke/allowed.txt says
	$(WITH_CGO) $(GO) run ./tools/benchsmoke

gobench: ## run the Go benchmarks
	$(WITH_CGO) $(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: audit notice sbom

# Needs the vulnerability database: https://vuln.go.dev, or a copy that GOVULNDB names. It
# is not part of make test, whose result must not change with a database elsewhere.
audit: ## report known vulnerabilities that the programs are affected by
	$(WITH_CGO) scripts/audit.sh

# The list of the Java client's libraries is Maven's; everything else is read from the
# modules themselves.
notice: ## generate NOTICE, the licences of everything that is distributed with the programs
	@mkdir -p build
	$(MAVEN) -f clients/java org.apache.maven.plugins:maven-dependency-plugin:3.8.1:list -DincludeScope=runtime -DoutputFile=$(CURDIR)/build/java-libraries.txt
	$(GO) run ./tools/notice -java build/java-libraries.txt >build/NOTICE && mv build/NOTICE NOTICE

# Warnings that this module itself cannot be downloaded are in order: its licence is known.
# The serial number is that of the program, and the time that of the commit: of equal
# programs the bill is equal.
sbom: SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
sbom: build ## write build/sbom.json, the bill of materials of dkvsrv (CycloneDX)
	@mkdir -p build
	$(GO) -C tools/sbom build -o $(CURDIR)/build/cyclonedx-gomod github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod
	build/cyclonedx-gomod bin -json -licenses -std -assert-licenses -version '$(VERSION)' -output build/sbom.json \
	  -serial "$$(sha256sum $(BIN)/dkvsrv | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-8\3-8\4-\5/')" $(BIN)/dkvsrv
	sed -i -E "s/(\"timestamp\": *\")[^\"]*/\1$$(date -u -d '@$(SOURCE_DATE_EPOCH)' +%FT%TZ)/" build/sbom.json
	$(GO) run ./tools/notice -sbom build/sbom.json

.PHONY: release release-image chart

build/chart: $(wildcard tools/chart/*)
	$(GO) -C tools/chart build -o $(CURDIR)/build/chart .

chart: build/chart ## render the Helm chart to deploy/helm/rendered, and check it and the compose files
	build/chart render .
	build/chart check .

# The programs of a release contain RocksDB, so that they need the C library alone.
release: export ROCKSDB_LINK = static
release: ## make archive, deb, rpm, chart, image (with a Docker engine), bill of materials and checksums in build/release
	rm -rf build/release && mkdir -p build/release
	$(MAKE) --no-print-directory sbom BIN=build/release-bin STRIP=1
	$(MAKE) --no-print-directory build/chart && build/chart check .
	scripts/release.sh '$(VERSION)' build/release-bin build/release
	cp build/sbom.json build/release/dkv-sbom.json
	@if docker info >/dev/null 2>&1; then $(MAKE) --no-print-directory release-image; \
	else echo 'No Docker engine answers: the release is without an image.' >&2; fi
	cd build/release && sha256sum * >SHA256SUMS && cat SHA256SUMS

release-image: docker
	docker save $(IMAGE) | gzip -n >build/release/dkv-image.tar.gz

.PHONY: reference site

reference: ## generate the pages below docs/reference from the tables and declarations in the source
	$(WITH_CGO) $(GO) test ./api ./internal ./internal/config ./internal/ctl/options -run '^Test(Metrics)?ReferenceIs' -count=1 -update
	$(WITH_CGO) $(GO) test ./tests/e2e -run '^TestMistakes$$' -count=1 -update

# Needs Node.js 18 or newer with npm, which installs the generator from the registry by
# tools/site/package-lock.json. Tests and builds need neither.
site: ## build the documentation site from docs/ into build/site
	@command -v npm >/dev/null || { echo 'make site needs Node.js 18 or newer and npm' >&2; exit 1; }
	cd tools/site && npm install --no-save --no-audit --no-fund --loglevel=error && npm run --silent build
	@echo 'built; to read it: python3 -m http.server -b 127.0.0.1 -d build/site 8000'

docker: ## build the image dkv:latest (IMAGE) on debian:12 or a similar base (BASE_IMAGE)
	docker build --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) $(DOCKER_ARGS) -t $(IMAGE) .

clean: ## remove what was built
	rm -rf $(BIN) build clients/java/target extras/ycsb/target
