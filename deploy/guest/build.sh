#!/bin/bash
# Builds the guest image: vmlinux and initramfs.cpio, with manifest.json, into
# build/guest (or the directory given). Same inputs, same bytes. See README.md.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
out=${1:-$top/build/guest}
cache=${SANDBOX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandbox}/kernel
jobs=${JOBS:-$(nproc)}

readonly SOURCE=/usr/src/linux-source-6.12.tar.xz
readonly FRAGMENT=$here/kernel.config
readonly AGENT_TARGET=x86_64-unknown-linux-gnu
# The kernel would take these from the clock, the user and the host.
readonly -a STAMP=(KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=sandbox
	KBUILD_BUILD_HOST=sandbox KBUILD_BUILD_VERSION=1)
# Parts of the source that an x86 guest without PCI never compiles: leaving
# them packed saves a gigabyte of disk.
readonly -a UNUSED=('*/Documentation/*/*' '*/arch/*/boot/dts/*' '*/drivers/gpu/*.[ch]'
	'*/drivers/media/*.[ch]' '*/drivers/net/ethernet/*.[ch]' '*/drivers/net/wireless/*.[ch]'
	'*/drivers/staging/*.[ch]' '*/sound/*.[ch]' '*/tools/perf/*' '*/tools/testing/*')
# Compiled files of the last full build, for the progress line only.
readonly OBJECTS=1290

say() { echo "guest image: $*" >&2; }
die() { say "$*"; exit 1; }
sha() { sha256sum -- "$1" | cut -d' ' -f1; }

check_tools() {
	local missing=() tool
	for tool in make gcc ld:binutils flex bison bc patch xz:xz-utils tar; do
		command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
	done
	command -v cargo >/dev/null || missing+=("a Rust toolchain")
	[ -e /usr/include/libelf.h ] || missing+=(libelf-dev)
	[ -e "$SOURCE" ] || missing+=(linux-source-6.12)
	[ -e /usr/lib/x86_64-linux-gnu/libseccomp.a ] || missing+=(libseccomp-dev)
	[ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}. Run deploy/install-deps.sh"
}

compiler() { gcc --version | head -1; ld --version | head -1; }

# Everything that the bytes of vmlinux depend on.
kernel_inputs() {
	echo "source $source_sha"
	echo "config $(sha "$FRAGMENT")"
	echo "patches $(cat "$here"/patches/*.patch | sha256sum)"
	compiler
	printf '%s\n' "${STAMP[@]}"
}

unpack() {
	say "unpacking $SOURCE"
	local pattern exclude=()
	for pattern in "${UNUSED[@]}"; do exclude+=("--exclude=$pattern"); done
	tar -C "$1" --strip-components=1 -xf "$SOURCE" "${exclude[@]}"
	for pattern in "$here"/patches/*.patch; do
		patch -s -p1 -d "$1" <"$pattern" || die "cannot apply $pattern to $SOURCE"
	done
}

configure() {
	make -s -C "$1" KCONFIG_ALLCONFIG="$FRAGMENT" allnoconfig
	make -s -C "$1" olddefconfig
	check_config "$1/.config"
}

# olddefconfig silently drops an option with unmet dependencies.
check_config() {
	local line name lost=()
	while read -r line; do
		case $line in
		CONFIG_*) grep -qxF -- "$line" "$1" || lost+=("$line") ;;
		'# CONFIG_'*' is not set')
			name=${line#\# }
			! grep -q "^${name%% *}=" "$1" || lost+=("$line")
			;;
		esac
	done <"$FRAGMENT"
	[ ${#lost[@]} -eq 0 ] || die "the kernel's source drops these lines of kernel.config: ${lost[*]}"
}

# Runs make in the background and prints its progress: one updating line on a
# terminal, one line every 30 seconds elsewhere.
compile() {
	local tree=$1 log=$2 pid every=30 end=$'\n' start=$SECONDS next=0 elapsed
	[ ! -t 2 ] || { every=1 end=$'\r'; }
	make -C "$tree" -j"$jobs" "${STAMP[@]}" vmlinux >"$log" 2>&1 9>&- &
	pid=$!
	trap 'kill $pid 2>/dev/null' EXIT
	while kill -0 $pid 2>/dev/null; do
		elapsed=$((SECONDS - start))
		if [ $elapsed -ge $next ]; then
			printf 'guest image: compiling the kernel: %d of about %d files, %d:%02d%s' \
				"$(grep -c '^  \(CC\|AS\) ' "$log")" $OBJECTS $((elapsed / 60)) $((elapsed % 60)) "$end" >&2
			next=$((next + every))
		fi
		sleep 0.5
	done
	trap - EXIT
	[ ! -t 2 ] || echo >&2
	wait $pid || { grep -iE -m5 -B5 'error' "$log" >&2 || tail -20 "$log" >&2; die "cannot compile the kernel; the log is $log"; }
}

build_kernel() {
	local made=$1 part
	# Under the lock only what an interrupted build left is there.
	rm -rf "$cache"/building.*
	part=$(mktemp -d "$cache/building.XXXXXX")
	mkdir "$part/tree" "$part/made"
	say "building the kernel, about 6 minutes on two cores, kept in $cache"
	unpack "$part/tree"
	configure "$part/tree"
	compile "$part/tree" "$cache/build.log"
	strip -s "$part/tree/vmlinux" -o "$part/made/vmlinux"
	cp "$part/tree/usr/gen_init_cpio" "$part/tree/.config" "$part/tree/System.map" \
		"$part/tree/include/config/kernel.release" "$part/made/"
	kernel_inputs >"$part/made/inputs"
	mv "$part/made" "$made"
	rm -rf "$part"
}

# Sets kernel_dir to the cached build, building it if any input has changed.
provide_kernel() {
	local key
	mkdir -p "$cache"
	source_sha=$(sha "$SOURCE")
	key=$(kernel_inputs | sha256sum | cut -c1-16)
	kernel_dir=$cache/$key
	exec 9>"$cache/lock"
	flock 9
	if [ -e "$kernel_dir/vmlinux" ]; then
		say "kernel $key is in the cache"
	else
		build_kernel "$kernel_dir"
	fi
	exec 9>&-
}

# Every page of the agent costs time at every boot: no unwind tables, and no
# relocations to apply (which costs the agent's own address randomization).
# The agent holds no path of this machine.
build_agent() {
	local flags=(-C target-feature=+crt-static -C relocation-model=static -C force-unwind-tables=no
		"--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" "--remap-path-prefix=$top=/src")
	say "building the agent"
	(cd "$top" && RUSTFLAGS=${flags[*]} \
		LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=/usr/lib/x86_64-linux-gnu \
		cargo build --quiet --locked --profile agent --target "$AGENT_TARGET" -p sandbox-agent)
	agent=${CARGO_TARGET_DIR:-$top/target}/$AGENT_TARGET/agent/sandbox-agent
}

# The kernel's own cpio writer makes device nodes without root, in the order
# of its list, with inode numbers that it counts and the time of -t.
write_cpio() { "$kernel_dir/gen_init_cpio" -t 0 -; }

# Two archives, one after the other: the second begins so that the agent's first
# byte is the first of a page, which spares the kernel from copying it (see
# patches/0003-adopt-initrd-pages.patch).
pack_initramfs() {
	local page=4096 header=110 name="init" size
	# Header and name with its NUL, filled up to a multiple of four.
	header=$(((header + ${#name} + 1 + 3) / 4 * 4))
	write_cpio >"$1" <<-LIST
		dir /dev 0755 0 0
		nod /dev/console 0600 0 0 c 5 1
	LIST
	size=$(stat -c %s "$1")
	truncate -s $(((size + header + page - 1) / page * page - header)) "$1"
	write_cpio >>"$1" <<<"file /$name $agent 0755 0 0"
}

manifest() {
	cat <<-JSON
		{
		  "vmlinux": {
		    "sha256": "$(sha "$out/vmlinux")",
		    "bytes": $(stat -c %s "$out/vmlinux"),
		    "release": "$(cat "$kernel_dir/kernel.release")",
		    "source_sha256": "$source_sha",
		    "config_sha256": "$(sha "$FRAGMENT")",
		    "compiler": "$(compiler | head -1)",
		    "linker": "$(compiler | tail -1)"
		  },
		  "initramfs.cpio": {
		    "sha256": "$(sha "$out/initramfs.cpio")",
		    "bytes": $(stat -c %s "$out/initramfs.cpio"),
		    "agent_sha256": "$(sha "$agent")"
		  }
		}
	JSON
}

# A file that is in use is replaced, never written over.
install_file() { cp -- "$1" "$2.new" && mv -f -- "$2.new" "$2"; }

check_tools
provide_kernel
build_agent
mkdir -p "$out"
install_file "$kernel_dir/vmlinux" "$out/vmlinux"
pack_initramfs "$out/initramfs.cpio.new"
mv -f "$out/initramfs.cpio.new" "$out/initramfs.cpio"
manifest >"$out/manifest.json.new"
mv -f "$out/manifest.json.new" "$out/manifest.json"
say "$(sha "$out/vmlinux")  $out/vmlinux"
say "$(sha "$out/initramfs.cpio")  $out/initramfs.cpio"
