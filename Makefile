# Everything is a command of its own; this file only gives the usual ones a name.
# Variables: M=a|b|host|server (console), KEEP=1 (demo), BOARD, KERNEL, N (benches).

GO      ?= go
BOARD   ?= qemu-x86_64
BUILD   := build
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: need-demo image ## Build the image, start the lab, cut the active member's power, show the takeover (KEEP=1 leaves it running)
	$(GO) run ./tools/lab demo $(if $(KEEP),--keep)

console: ## Open a member's serial console (M=a, b, host, server; leave with Ctrl-])
	@$(GO) run ./tools/lab console $(or $(M),a)

stop: ## Stop a lab that was left running
	$(GO) run ./tools/lab stop

image: need-image ## Build kernel and initramfs into build/image
	$(GO) run ./tools/image --board $(BOARD) --out $(BUILD)/image

test: need-test check unit vm ## Everything CI runs

check: ## Formatting, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

unit: ## Unit, simulator and namespace tests (the latter need root)
	$(GO) test -timeout 5m ./...

vm: image ## The demo as a test: four virtual machines, a power cut, checks on the captures
	$(GO) run ./tools/lab demo

sim: ## Play N random histories of whole clusters (default 10000), or for SOAK=1h; tells a violation as a story
	$(GO) run ./ha/sim/cmd $(if $(SOAK),-soak $(SOAK),-n $(or $(N),10000))

mutations: ## Show that the simulator finds seeded defects of the core (compiles it once for each; minutes)
	$(GO) test ./ha/sim -run TestMutations -mutations -v -timeout 30m

fuzz: ## Fuzz every parser and the core for FUZZTIME each (default 20s)
	@./tools/fuzz.sh $(or $(FUZZTIME),20s)

bench-failover: need-bench ## Outage of a failover beside keepalived + conntrackd, in namespaces (root)
	$(GO) run ./tools/bench/failover $(if $(N),-n $(N))

bench-ruleset: ## A policy into the kernel beside nft -f, and forwarding beside rules by hand, in namespaces (root)
	$(GO) run ./tools/bench/ruleset $(if $(N),-n $(N))

need-%:
	@./tools/need.sh $*

clean: ## Remove everything that was built
	rm -rf $(BUILD)

.PHONY: help demo console stop image test check unit vm fuzz bench-failover bench-ruleset sim mutations clean
