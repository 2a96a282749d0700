# Everything is a command of its own; this file only gives the usual ones a name.
# Variables: M=a|b|host|server (console), KEEP=1 (demo), BOARD, KERNEL, N (benches).

GO      ?= go
BOARD   ?= generic-x86_64
BUILD   := build
KEYS    ?= $(BUILD)/keys
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: need-demo pieces ## Build the image, start the lab, cut the active member's power, show the takeover (KEEP=1 leaves it running)
	$(GO) run ./tools/lab demo $(if $(KEEP),--keep)

console: ## Open a member's serial console (M=a, b, host, server; leave with Ctrl-])
	@$(GO) run ./tools/lab console $(or $(M),a)

stop: ## Stop a lab that was left running
	$(GO) run ./tools/lab stop

image: need-image ## Build the image of a disk for BOARD and its upgrade file into build/disk (SIGN=1: signed for secure boot; VERIFY=1: build twice and compare)
	$(GO) run ./tools/image disk --board $(BOARD) --out $(BUILD)/disk --keys $(KEYS) $(if $(SIGN),--sign) $(if $(VERIFY),--verify)

pieces: need-image ## Build kernel and initramfs for the lab into build/image
	$(GO) run ./tools/image pieces --board $(BOARD) --out $(BUILD)/image

keys: ## Make the keys that sign upgrades and images (KEYS=build/keys)
	$(GO) run ./tools/sign -keys $(KEYS) keygen

test: need-test check unit vm test-boot ## Everything CI runs

test-boot: ## The part of test-image that CI has time for: first boot, upgrade, a panic, secure boot
	@$(MAKE) test-image VERIFY= T='TestFirstBootAndState|TestUpgrade|TestBrokenImages/panic|TestSecureBoot'

check: ## Formatting, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd tools/manager && $(GO) vet ./... && $$(cd ../.. && $(GO) tool -n staticcheck) ./...

unit: ## Unit, simulator and namespace tests (the latter need root)
	$(GO) test -timeout 20m ./...
	cd tools/manager && $(GO) test ./...

vm: pieces ## The demo as a test: four virtual machines, a power cut, checks on the captures
	$(GO) run ./tools/lab demo

test-image: need-box image ## The disk image in QEMU with OVMF: first boot, upgrades, broken images, secure boot, flash (T=regexp chooses)
	@test -f $(KEYS)/PK.auth || $(GO) run ./tools/sign -keys $(KEYS) keygen
	$(GO) test ./tools/lab/box -run '$(or $(T),.)' -v -timeout 60m -image $(abspath $(BUILD)/disk) -cache $(abspath $(BUILD)/cache) -keys $(abspath $(KEYS))

test-powercut: need-box image ## Cut the power N times (default 200) at random moments of first boot, upgrade, trial, confirmation (REPLAY=1000: judge the disks of one recorded upgrade instead of booting)
	$(GO) run ./tools/lab/powercut -n $(or $(N),200) -image $(BUILD)/disk -cache $(BUILD)/cache -keys $(KEYS) $(if $(FOR),-for $(FOR)) $(if $(SEED),-seed $(SEED)) $(if $(REPLAY),-replay $(REPLAY))

sim: ## Play N random histories of whole clusters (default 10000), or for SOAK=1h; tells a violation as a story
	$(GO) run -pgo=ha/sim/testdata/cpu.pprof ./ha/sim/cmd $(if $(SOAK),-soak $(SOAK),-n $(or $(N),10000))

mutations: ## Show that the simulator finds seeded defects of the core (compiles it once for each; minutes)
	$(GO) test ./ha/sim -run TestMutations -mutations -histories 4000 -v -timeout 60m

fuzz: ## Fuzz every parser and the core for FUZZTIME each (default 20s)
	@./tools/fuzz.sh $(or $(FUZZTIME),20s)

bench-failover: need-bench ## Outage of a failover beside keepalived + conntrackd, in namespaces (root)
	$(GO) run ./tools/bench/failover $(if $(N),-n $(N))

bench-sync: need-bench ## State synchronisation beside conntrackd: rate, CPU, lag, time to load (root)
	$(GO) run ./tools/bench/sync $(if $(N),-n $(N))

bench-ruleset: ## A policy into the kernel beside nft -f, and forwarding beside rules by hand, in namespaces (root)
	$(GO) run ./tools/bench/ruleset $(if $(N),-n $(N))

need-%:
	@./tools/need.sh $*

clean: ## Remove everything that was built
	rm -rf $(BUILD)

.PHONY: help demo console stop image pieces keys test test-boot test-image test-powercut check unit vm fuzz bench-failover bench-sync bench-ruleset sim mutations clean
