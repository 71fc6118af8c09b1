#!/bin/bash
# Installs the packages of Debian 12 or 13 that building and running Sandbox
# needs. Returns at once, and needs no root, if all are installed. --lab adds the
# packages of the tests (a C++ compiler for fuzz targets, a kernel for tests/lab
# and more), --bench those that the network benchmark compares with.
set -euo pipefail

# CHECK:PACKAGE. A check is the name of a program or the path of a file. It does
# not matter which package provides it: a containerd from elsewhere is kept.
readonly -a BUILD=(
	make:make gcc:gcc ld:binutils flex:flex bison:bison bc:bc patch:patch xz:xz-utils pkg-config:pkg-config
	/usr/src/linux-source-6.12.tar.xz:linux-source-6.12
	/usr/include/libelf.h:libelf-dev
	/usr/lib/x86_64-linux-gnu/libseccomp.a:libseccomp-dev
	/usr/lib/x86_64-linux-gnu/libcap-ng.a:libcap-ng-dev
)
readonly -a RUN=(
	containerd:containerd ctr:containerd qemu-system-x86_64:qemu-system-x86
	busybox:busybox-static ip:iproute2
)
readonly -a LAB=(
	'/boot/vmlinuz-*-cloud-amd64:linux-image-cloud-amd64'
	g++:g++ python3:python3 curl:curl
	'/usr/lib/python3*/ensurepip/__main__.py:python3-venv'
	modprobe:kmod mkfs.ext4:e2fsprogs mkfs.erofs:erofs-utils losetup:mount dmsetup:dmsetup
	/usr/lib/cni/portmap:containernetworking-plugins iptables:iptables
)
readonly -a BENCH=(pasta:passt slirp4netns:slirp4netns ip:iproute2)

say() { echo "install-deps: $*"; }

# /sbin is not in every user's PATH.
there() {
	case $1 in
	/*) compgen -G "$1" >/dev/null ;;
	*) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

missing_packages() {
	local entry
	for entry in "$@"; do
		there "${entry%:*}" || echo "${entry##*:}"
	done | sort -u
}

wanted=("${BUILD[@]}" "${RUN[@]}")
case ${1:-} in
'') ;;
--lab)
	wanted+=("${LAB[@]}")
	# Debian 12 has none: tests/lab/run builds it there.
	[ -z "$(apt-cache search --names-only '^virtiofsd$')" ] || wanted+=(/usr/libexec/virtiofsd:virtiofsd)
	;;
--bench) wanted+=("${BENCH[@]}") ;;
*)
	echo "usage: deploy/install-deps.sh [--lab | --bench]" >&2
	exit 2
	;;
esac

mapfile -t missing < <(missing_packages "${wanted[@]}")
if [ ${#missing[@]} -eq 0 ]; then
	say "everything is installed"
	exit 0
fi
say "installing from the distribution: ${missing[*]}"
command -v apt-get >/dev/null || { say "this is not Debian: install the like of these packages by hand" >&2; exit 1; }
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get -qq update
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get -qq install --no-install-recommends "${missing[@]}"
say "done"
