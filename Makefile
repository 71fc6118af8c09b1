# Everything that one can run, by name. `make` alone prints the list.
#
# NAME=value on the command line narrows a run:
#   make demo ARGS='ls -l /'          another command in the container
#   make test-vm TESTS=stdio          only tests whose name contains "stdio"
#   make fuzz FUZZ_SECONDS=600        longer, or FUZZ_TARGETS="vsock" fewer

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Where things are built.
BIN := target/release
GUEST := build/guest
TIMED := tests/timed
STATIC := target/x86_64-unknown-linux-gnu/release
# Tools that cargo does not bring; may be shared by several trees.
SANDBOX_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/sandbox
export SANDBOX_CACHE

# What a run may be narrowed with.
ARGS ?=
TESTS ?=
TEST_THREADS ?= 4
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
DESTDIR ?=
PREFIX ?= /usr

export ARGS FUZZ_SECONDS FUZZ_TARGETS

##@ Look
.PHONY: help demo doctor
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo

demo: ## one container in its own microVM, from nothing, on Debian 12 or 13 (root)
	@deploy/demo/run

doctor: build ## what this machine has, and what it lacks
	@$(BIN)/sandboxctl doctor

##@ Build
.PHONY: deps build guest toolbox install clean
deps: ## install what the build and the tests need from Debian (root)
	@deploy/install-deps.sh --lab

build: ## the shim, the VMM and sandboxctl, in target/release
	@$(TIMED) build deploy/build.sh

guest: ## the guest's kernel and initramfs, in build/guest
	@$(TIMED) guest deploy/guest/build.sh

toolbox: export RUSTFLAGS = -C target-feature=+crt-static
toolbox: ## the static program that the tests run inside containers
	@$(TIMED) toolbox cargo build --release --locked --target x86_64-unknown-linux-gnu -p sandbox-toolbox

install: build guest ## into $(DESTDIR)$(PREFIX), as a package would
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/sandbox
	install -m 755 $(BIN)/containerd-shim-sandbox-v1 $(BIN)/sandboxctl $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BIN)/sandbox-vmm $(DESTDIR)$(PREFIX)/lib/sandbox/
	install -m 644 $(GUEST)/vmlinux $(GUEST)/initramfs.cpio $(GUEST)/manifest.json $(DESTDIR)$(PREFIX)/lib/sandbox/

clean: ## what was built in this tree; caches outside it stay
	cargo clean
	rm -rf build

##@ Check
.PHONY: check fmt clippy walls deny test-unit test-net test-vm test-conformance test-snapshotters test-versions test-clients test-kvm fuzz test
check: fmt clippy walls deny ## format, lints, the walls of the design, licences and bans

fmt:
	@$(TIMED) fmt cargo fmt --all --check

clippy:
	@$(TIMED) clippy cargo clippy --workspace --all-targets --locked -- -D warnings
	@$(TIMED) clippy/fuzz cargo clippy --manifest-path tests/fuzz/Cargo.toml --locked --target-dir target -- -D warnings

walls:
	@$(TIMED) walls cargo test --locked -q -p sandbox-tests --test walls

deny:
	@$(TIMED) deny tests/walls/deny

test-unit: ## the crates' own tests, no root and no VM needed
	@$(TIMED) test-unit cargo test --workspace --exclude sandbox-tests --locked --no-fail-fast
	@$(TIMED) test-unit/harness cargo test --locked -p sandbox-tests --lib

test-net: ## what the NAT carries, gigabytes over bad links, optimized and by a clock of its own
	@$(TIMED) $@ cargo test --release --locked -p sandbox-netstack --lib -- --ignored $(TESTS)

# Each by itself, so that one that fails does not keep the others from running.
VM_PARTS := test-vm-nat test-vm-agent test-vm-pod test-vm-demo test-vm-features
.PHONY: $(VM_PARTS) kill-points
$(VM_PARTS): export SANDBOX_TEST_BIN = $(CURDIR)/$(BIN)
$(VM_PARTS): export SANDBOX_TEST_GUEST = $(CURDIR)/$(GUEST)
$(VM_PARTS): export SANDBOX_TEST_VMM = $(CURDIR)/$(BIN)/sandbox-vmm
$(VM_PARTS): build guest toolbox

test-vm: $(VM_PARTS) ## real containerd, real microVMs, the engine that "auto" picks (root)

test-vm-features: kill-points

# In the profile of the tests, whose dependencies are built anyway.
kill-points:
	@$(TIMED) $@ tests/crash/build

test-vm-nat:
	@$(TIMED) $@/build cargo build --release --locked -p sandbox-netstack
	@$(TIMED) $@ cargo test --locked -p sandbox-tests --test nat -- $(TESTS)

test-vm-agent:
	@$(TIMED) $@ cargo test --locked -p sandbox-agent --test guest -- $(TESTS)

test-vm-pod:
	@$(TIMED) $@ cargo test --locked -p sandbox-runtime --lib --test pod -- --ignored $(TESTS)

test-vm-demo:
	@[ -n "$(TESTS)" ] || $(TIMED) $@ tests/demo/run

test-vm-features:
	@$(TIMED) $@ cargo test --locked -p sandbox-tests --test vm -- --test-threads $(TEST_THREADS) $(TESTS)

# Tests with another containerd than this machine's, or another client than ctr.
ELSEWHERE := test-conformance test-snapshotters test-versions test-clients
$(ELSEWHERE): export SANDBOX_TEST_BIN = $(CURDIR)/$(BIN)
$(ELSEWHERE): export SANDBOX_TEST_GUEST = $(CURDIR)/$(GUEST)

test-conformance: build guest ## containerd's own tests, with io.sandbox.v1 as their runtime (root)
	@$(TIMED) $@/overlayfs tests/conformance/run $(TESTS)
	@TEST_SNAPSHOTTER=erofs $(TIMED) $@/erofs tests/conformance/run $(TESTS)
	@$(TIMED) $@/kvm tests/conformance/lab $(TESTS)

test-versions: export SANDBOX_TEST_VMM = $(CURDIR)/$(BIN)/sandbox-vmm
test-versions: build guest toolbox ## what goes through ctr, with containerd 1.7 and 2.x of other Debian releases (root)
	@$(TIMED) $@ tests/versions/run

test-clients: build guest ## Docker, with containers of io.sandbox.v1 (root)
	@$(TIMED) $@ tests/clients/run $(TESTS)

test-snapshotters: build guest ## containers on every snapshotter of the newest containerd (root)
	@$(TIMED) $@/auto tests/snapshotters/run $(TESTS)
	@$(TIMED) $@/kvm tests/snapshotters/lab $(TESTS)

test-kvm: build guest toolbox kill-points ## the same tests on the kvm engine; without real KVM, in the lab (root)
	@$(TIMED) test-kvm tests/kvm/run $(TESTS)

fuzz: ## every fuzz target for FUZZ_SECONDS each
	@$(TIMED) fuzz tests/fuzz/run

test: check test-unit test-net test-vm test-conformance test-snapshotters test-versions test-clients test-kvm fuzz ## all of the above, with the time that each part takes

##@ Measure
.PHONY: bench-boot bench-net bench-shim
bench-boot: build guest ## exec of the VM's first process to agent ready, counted, beside its peers
	@tests/bench/boot

bench-shim: build guest toolbox ## containerd's calls beside runc's shim, in turns (root)
	@tests/bench/shim $(foreach name,ROUNDS TURNS CROWDS ENGINE,$(if $($(name)),$(name)="$($(name))"))

# Without NAME=value it is the whole run, a quarter of an hour.
NARROWED = $(foreach name,RUNS SECONDS ONLY BACKENDS SMOKE BIN GUEST PAGE PLOT,$(if $($(name)),$(name)=$($(name))))
bench-net: $(if $(BIN)$(SMOKE)$(BACKENDS),,build guest) ## kernel veth, pasta, slirp4netns and ours in one run (root); writes docs/bench-net.md
	@deploy/install-deps.sh --bench
	@tests/bench/net $(NARROWED)
