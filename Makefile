# Every target. `make` alone prints the list.
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
help: ## print this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo

demo: ## build everything and run one container in a microVM, on Debian 12 or 13 (root)
	@deploy/demo/run

doctor: build ## list what this machine has and lacks
	@$(BIN)/sandboxctl doctor

##@ Build
.PHONY: deps build guest toolbox pages install uninstall stage deb clean
deps: ## install what the build and the tests need from Debian (root)
	@deploy/install-deps.sh --lab

build: ## the shim, the VMM and sandboxctl, in target/release
	@$(TIMED) build deploy/build.sh

guest: ## the guest's kernel and initramfs, in build/guest (the first time about 10 minutes)
	@$(TIMED) guest deploy/guest/build.sh

toolbox: export RUSTFLAGS = -C target-feature=+crt-static
toolbox: ## the static program that the tests run inside containers
	@$(TIMED) toolbox cargo build --release --locked --target x86_64-unknown-linux-gnu -p sandbox-toolbox

# Manual pages and shell completions of sandboxctl, as below /usr/share.
PAGES := build/pages
pages:
	rm -rf $(PAGES)
	cargo run --quiet --locked -p sandboxctl --example pages $(PAGES)

install: build guest pages ## install to $(DESTDIR)$(PREFIX) (root)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/sandbox
	install -m 755 $(BIN)/containerd-shim-sandbox-v1 $(BIN)/sandboxctl $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BIN)/sandbox-vmm $(DESTDIR)$(PREFIX)/lib/sandbox/
	install -m 644 $(GUEST)/vmlinux $(GUEST)/initramfs.cpio $(GUEST)/manifest.json $(DESTDIR)$(PREFIX)/lib/sandbox/
	cd $(PAGES) && find . -type f -exec install -D -m 644 {} $(abspath $(DESTDIR)$(PREFIX)/share)/{} \;

uninstall: ## remove what install installed; /etc/sandbox stays (root)
	rm -rf $(DESTDIR)$(PREFIX)/lib/sandbox
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,containerd-shim-sandbox-v1 sandboxctl)
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/sandboxctl*.1 $(addprefix $(DESTDIR)$(PREFIX)/share/,\
	  bash-completion/completions/sandboxctl zsh/site-functions/_sandboxctl fish/vendor_completions.d/sandboxctl.fish)

STAGE := $(CURDIR)/build/stage
stage:
	rm -rf $(STAGE)
	$(MAKE) install DESTDIR=$(STAGE) PREFIX=/usr

deb: stage ## build a Debian package in build/
	@deploy/debian/build $(STAGE)

clean: ## remove what was built in this tree; caches outside it stay
	cargo clean
	rm -rf build

##@ Check
# The parts of `make test`. tests/shards/times has the time of each, and what `make test-all` adds.
VM_PARTS := test-vm-nat test-vm-agent test-vm-pod test-vm-demo test-vm-features
PARTS := test-unit $(VM_PARTS) test-conformance-core test-kvm-core fuzz-smoke
.PHONY: check fmt clippy walls deny kill-points test test-all $(PARTS)
.PHONY: test-vm test-net test-deb test-conformance test-snapshotters test-versions test-clients test-kvm fuzz

test: check $(PARTS) ## what CI and newcomers run, at most 30 minutes on two idle cores (root)

SHARDS := cargo run --quiet --locked -p sandbox-tests --bin shards --
test-all: ## every test, in hours; SHARD=1/3 runs a third of what `make test` leaves out (root)
	@parts=$$($(SHARDS) parts $(SHARD)); $(MAKE) $(if $(SHARD),,test) $$parts

check: fmt clippy walls deny ## format, lints, design rules, licences and bans

fmt:
	@$(TIMED) $@ cargo fmt --all --check

clippy:
	@$(TIMED) $@ cargo clippy --workspace --all-targets --locked -- -D warnings

# Cargo selects features by the packages that a command names: with one selection, --workspace,
# the dependencies of all tests are compiled once.
CARGO_TEST := cargo test --workspace --locked

walls:
	@$(TIMED) $@ $(CARGO_TEST) --quiet --test walls

deny:
	@$(TIMED) $@ tests/walls/deny

# By name, as --bins compiles fuzz targets as tests, too, whatever their manifest says.
PROGRAMS := containerd-shim-sandbox-v1 sandbox-vmm sandbox-agent sandboxctl netstack-tap toolbox \
  conformance-judge kvm-suite shards bench-boot bench-net

test-unit: ## the crates' own tests, no root and no VM needed
	@$(TIMED) $@ $(CARGO_TEST) --no-fail-fast --lib $(PROGRAMS:%=--bin %) --test pod --test jail --test kvm --test net $(TESTS)

test-net: ## load tests of the NAT: gigabytes over lossy links, optimized, with a simulated clock
	@$(TIMED) $@ cargo test --release --locked -p sandbox-netstack --lib -- --ignored $(TESTS)

# Each by itself, so that one that fails does not keep the others from running.
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
	@$(TIMED) $@ $(CARGO_TEST) --test nat -- $(TESTS)

test-vm-agent:
	@$(TIMED) $@ $(CARGO_TEST) --test guest -- $(TESTS)

# Ignored tests need root; those of the NAT with gigabytes are test-net.
test-vm-pod:
	@$(TIMED) $@ $(CARGO_TEST) --lib --test pod -- --ignored --skip gigabyte $(TESTS)

test-vm-demo:
	@[ -n "$(TESTS)" ] || $(TIMED) $@ tests/demo/run

test-vm-features:
	@$(TIMED) $@ $(CARGO_TEST) --test vm -- --test-threads $(TEST_THREADS) $(TESTS)

# Tests with another containerd than this machine's, or another client than ctr.
CONFORMANCE := test-conformance-core test-conformance-overlayfs test-conformance-erofs test-conformance-kvm
SNAPSHOTTERS := test-snapshotters-auto test-snapshotters-kvm
VERSIONS := test-versions-trixie test-versions-newest
ELSEWHERE := $(CONFORMANCE) $(SNAPSHOTTERS) $(VERSIONS) test-clients test-crictl
.PHONY: $(ELSEWHERE)
$(ELSEWHERE): export SANDBOX_TEST_BIN = $(CURDIR)/$(BIN)
$(ELSEWHERE): export SANDBOX_TEST_GUEST = $(CURDIR)/$(GUEST)
$(ELSEWHERE): build guest

test-conformance: $(filter-out %-core,$(CONFORMANCE)) ## containerd's own tests, with io.sandbox.v1 as their runtime (root)

test-conformance-core:
	@$(TIMED) $@ tests/conformance/run $(or $(TESTS),core)

test-conformance-overlayfs:
	@$(TIMED) $@ tests/conformance/run $(TESTS)

test-conformance-erofs:
	@TEST_SNAPSHOTTER=erofs $(TIMED) $@ tests/conformance/run $(TESTS)

test-conformance-kvm:
	@$(TIMED) $@ tests/conformance/lab $(TESTS)

test-versions: $(VERSIONS) ## what goes through ctr, with containerd 1.7 and 2.x of other Debian releases (root)

$(VERSIONS): export SANDBOX_TEST_VMM = $(CURDIR)/$(BIN)/sandbox-vmm
$(VERSIONS) $(SNAPSHOTTERS) test-clients: toolbox
$(VERSIONS): test-versions-%:
	@VERSIONS_SUITES=$* $(TIMED) $@ tests/versions/run

test-clients: ## Docker and nerdctl, with containers in sandboxes (root)
	@$(TIMED) $@ $(CARGO_TEST) --test clients -- --test-threads $(TEST_THREADS) $(TESTS)

test-crictl: toolbox ## a pod through the CRI, by crictl, with two versions of containerd (root)
	@$(TIMED) $@ tests/crictl/run

test-deb: stage ## installs, upgrades and removes the Debian package around a container (root)
	@$(TIMED) $@ tests/deb/run $(STAGE)

test-snapshotters: $(SNAPSHOTTERS) ## containers on every snapshotter of the newest containerd (root)

test-snapshotters-auto:
	@$(TIMED) $@ $(CARGO_TEST) --test snapshotters -- $(TESTS)

test-snapshotters-kvm:
	@SANDBOX_TEST_ENGINE=kvm $(TIMED) $@ $(CARGO_TEST) --test snapshotters -- --test-threads 1 $(TESTS)

KVM_SUITE := cargo run --quiet --locked -p sandbox-tests --bin kvm-suite --
test-kvm: build guest toolbox kill-points ## the feature tests on the kvm engine; without real KVM, in labs (root)
	@$(TIMED) $@ $(KVM_SUITE) $(TESTS)

test-kvm-core: build guest toolbox kill-points
	@$(TIMED) $@ $(KVM_SUITE) core

# A piece of the suite: test-kvm-1of3.
test-kvm-%: build guest toolbox kill-points
	@$(TIMED) $@ $(KVM_SUITE) $*

fuzz: ## every fuzz target for FUZZ_SECONDS each
	@$(TIMED) $@ tests/fuzz/run

fuzz-smoke: ## every fuzz target over its seeds, and a few seconds more
	@FUZZ_SECONDS=5 $(TIMED) $@ tests/fuzz/run

# A piece of the targets: fuzz-1of3.
fuzz-%:
	@$(TIMED) $@ tests/fuzz/run $*

##@ Measure
.PHONY: bench-boot bench-net bench-shim
bench-boot: deps build guest ## exec of the VM's first process to agent ready, counted, beside its peers
	@tests/bench/boot

bench-shim: deps build guest toolbox ## containerd's calls beside runc's shim, in turns (root)
	@tests/bench/shim $(foreach name,ROUNDS TURNS CROWDS ENGINE,$(if $($(name)),$(name)="$($(name))"))

# Without NAME=value it is the whole run, a quarter of an hour.
NARROWED = $(foreach name,RUNS SECONDS ONLY BACKENDS SMOKE BIN GUEST PAGE PLOT,$(if $($(name)),$(name)=$($(name))))
bench-net: bench-deps $(if $(BIN)$(SMOKE)$(BACKENDS),,build guest) ## kernel veth, pasta, slirp4netns and ours in one run (root); writes docs/bench-net.md
	@tests/bench/net $(NARROWED)

.PHONY: bench-deps
bench-deps:
	@deploy/install-deps.sh --bench
