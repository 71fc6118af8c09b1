#!/bin/bash
# Builds the shim, sandboxctl, sandbox-vmm and netstack-tap into target/release.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly TARGET=x86_64-unknown-linux-gnu LIBRARIES=/usr/lib/x86_64-linux-gnu
[ -e $LIBRARIES/libcap-ng.a ] || { echo "build: libcap-ng.a is missing. Run deploy/install-deps.sh" >&2; exit 1; }

# In one command, so that the dependencies are compiled once. netstack-tap is what tests and
# benchmarks run.
cargo build --release --locked -p sandbox-shim -p sandboxctl -p sandbox-netstack

# Three processes of each sandbox are sandbox-vmm. Static, each is loaded in
# half the time, as no libraries are looked up and bound. It stays position
# independent.
LIBCAPNG_LINK_TYPE=static LIBCAPNG_LIB_PATH=$LIBRARIES \
	RUSTFLAGS="-C target-feature=+crt-static" \
	cargo build --release --locked --target "$TARGET" -p sandbox-vmm

# A binary that runs is replaced, never written over.
built=${CARGO_TARGET_DIR:-target}
cp -- "$built/$TARGET/release/sandbox-vmm" "$built/release/sandbox-vmm.new"
mv -f -- "$built/release/sandbox-vmm.new" "$built/release/sandbox-vmm"
