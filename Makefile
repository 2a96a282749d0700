# Everything is a command of its own; this file only gives the usual ones a name.
# Variables: M=a|b|host|server (console), KEEP=1 (demo), BOARD, KERNEL, N (benches).

GO      ?= go
BOARD   ?= generic-x86_64
BUILD   := build
KEYS    ?= $(BUILD)/keys
OWN     := $(filter own,$(KERNEL))
IMAGE    = $(GO) run ./tools/image
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

image: need-image $(if $(OWN),need-kernel) ## Build the image of a disk for BOARD and its upgrade file into build/disk (SIGN=1: signed for secure boot; VERIFY=1: build twice and compare; KERNEL=own: our own kernel)
	$(IMAGE) disk --board $(BOARD) $(if $(KERNEL),--kernel $(KERNEL)) --out $(BUILD)/disk --keys $(KEYS) $(if $(SIGN),--sign) $(if $(VERIFY),--verify)

pieces: need-image $(if $(OWN),need-kernel) ## Build kernel and initramfs for the lab into build/image
	$(IMAGE) pieces --board $(BOARD) $(if $(KERNEL),--kernel $(KERNEL)) --out $(BUILD)/image

kernel: need-kernel ## Build our own kernel from Debian's sources and buildroot/kernel.config, for KERNEL=own (VERIFY=1: build twice and compare)
	$(IMAGE) kernel $(if $(JOBS),--jobs $(JOBS)) $(if $(VERIFY),--verify)

check-kernel: need-kernel ## Configure our own kernel, without building it: every option of buildroot/kernel.config must be kept
	$(IMAGE) check-kernel

keys: ## Make the keys that sign upgrades and images (KEYS=build/keys)
	$(GO) run ./tools/sign -keys $(KEYS) keygen

test: need-test check check-kernel unit vm test-boot ## Everything CI runs

test-boot: ## The disk image, an image built twice and compared, the case and the watchdog, flowtables: everything on booted machines that CI runs
	@$(MAKE) test-image VERIFY=1 SKIP='TestTPMUnseal|TestTPMDrive'
	@$(MAKE) test-hardware
	@$(MAKE) test-flowtable

check: ## Formatting, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	cd tools/manager && $(GO) vet ./... && $$(cd ../.. && $(GO) tool -n staticcheck) ./...

board-check: ## Check the board files (FILES=board/mine.yaml checks others)
	$(GO) run ./firmware/twinkeep board check $(or $(FILES),$(wildcard board/*.yaml))

unit: ## Unit, simulator and namespace tests (the latter need root)
	$(GO) test -timeout 20m ./...
	cd tools/manager && $(GO) test ./...

vm: THEN ?= return,pause,operator,partition
vm: pieces ## The demo as a test: four virtual machines, a power cut, checks on the captures, then stories in the same lab (THEN= for none)
	$(GO) run ./tools/lab demo $(if $(THEN),--then $(THEN))

scenarios: need-demo pieces ## Further stories in one lab: pause, stall, link, sync, operator, one-way, partition (S="NAME..." chooses; table in build/scenarios/result.md)
	$(GO) run ./tools/lab scenarios $(S)

test-image: need-box image ## The disk image in QEMU with OVMF: first boot, upgrades, broken images, secure boot, TPM, flash (T=regexp chooses, SKIP=regexp leaves out)
	@test -f $(KEYS)/PK.auth || $(GO) run ./tools/sign -keys $(KEYS) keygen
	$(GO) test ./tools/lab/box -run '$(or $(T),.)' $(if $(SKIP),-skip '$(SKIP)') -v -timeout 60m -image $(abspath $(BUILD)/disk) -cache $(abspath $(BUILD)/cache) -keys $(abspath $(KEYS))

# The kernel of test-flowtable: Debian's, the newest of our own, or an unpacked package.
FLOWKERNEL = $(if $(OWN),$(firstword $(shell ls -dt $(BUILD)/cache/linux-source-*.kernel-*)),$(or $(KERNEL),$(lastword $(sort $(filter-out %.deb,$(wildcard $(BUILD)/cache/linux-image-*))))))

test-flowtable: need-flowtable ## The tests that need flowtables, on Debian's kernel in QEMU: the rules, the lockdown, the gate (KERNEL=own, or another unpacked kernel package)
	@mkdir -p $(BUILD)/kerneltest
	@set -e; for p in firmware/ruleset:TestFast firmware/gatewayd:TestLockdownEndsFlows ha/gate:TestShutGateHoldsFlows; do \
		CGO_ENABLED=0 $(GO) test -c -o $(BUILD)/kerneltest/test ./$${p%%:*}; \
		tools/kerneltest/kerneltest.sh $(FLOWKERNEL) $(BUILD)/kerneltest/test $${p%%:*} -test.v -test.run "$${p##*:}"; \
	done

test-hardware: need-hardware pieces ## Lamps, buttons, buzzer, temperature, power-fail, watchdog on a machine of QEMU (T=regexp chooses)
	$(GO) test ./hal/halvm -run '$(or $(T),.)' -v -timeout 30m -image $(abspath $(BUILD)/image)

test-hardware-arm64: need-hardware-arm64 ## The images of qemu-arm64 under emulation: kernel and initramfs to ACTIVE, lamp, power button; a disk with UEFI
	$(IMAGE) pieces --board qemu-arm64 --out $(BUILD)/image-arm64
	$(IMAGE) disk --board qemu-arm64 --out $(BUILD)/disk-arm64 --keys $(KEYS)
	$(GO) test ./hal/halvm -run '$(or $(T),TestARM)' -v -timeout 30m -arm $(abspath $(BUILD)/image-arm64) -armdisk $(abspath $(BUILD)/disk-arm64)

test-powercut: need-box image ## Start N disks (default 200) as power cuts leave them at random moments of first boot, policy and node file commits, upgrade and factory reset (SEED=, WORK=, FOR=6m: in slices; LIVE=1: cut running boxes; REPLAY=1000: judge without booting)
	$(GO) run ./tools/lab/powercut -n $(or $(N),200) -image $(BUILD)/disk -cache $(BUILD)/cache -keys $(KEYS) $(if $(WORK),-work $(WORK)) $(if $(FOR),-for $(FOR)) $(if $(SEED),-seed $(SEED)) $(if $(LIVE),-live) $(if $(REPLAY),-replay $(REPLAY))

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

bench-boot: need-box need-image need-kernel ## From power-on to forwarding, stage by stage, and sizes, with both kernels (N boots each, default 5)
	$(GO) run ./tools/bench/boot $(if $(N),-n $(N)) $(if $(KERNEL),-kernels $(KERNEL))

need-%:
	@./tools/need.sh $*

clean: ## Remove everything that was built
	rm -rf $(BUILD)

.PHONY: help demo console stop image pieces kernel check-kernel bench-boot keys test test-boot test-image test-flowtable test-powercut test-hardware test-hardware-arm64 check board-check unit vm scenarios fuzz bench-failover bench-sync bench-ruleset sim mutations clean
