#!/bin/bash
# make-image.sh OUT NAME [--command JSON] [--add FILE:PATH]...
#
# Writes to OUT an OCI image layout as a tar, fit for `ctr image import`: one
# layer with Debian's static busybox and a link for each of its tools, and
# FILEs at their PATHs; the command is ["sh"] if none is given. Same inputs, same bytes.
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
(($# >= 2)) || usage
out=$1 name=$2
shift 2
command='["sh"]'
if [ "${1:-}" = --command ]; then command=$2; shift 2; fi

busybox=$(command -v busybox) || {
  echo "make-image.sh: no busybox: apt-get install busybox-static" >&2
  exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root layout=$work/layout
mkdir -p "$layout/blobs/sha256"

# The files.
mkdir -p "$root"/{bin,dev,etc,home/user,proc,root,run,sys,tmp,usr/bin,var}
install -m 755 "$busybox" "$root/bin/busybox"
"$busybox" --list | while read -r tool; do
  [ "$tool" = busybox ] || ln -s busybox "$root/bin/$tool"
done
ln -s ../../bin/env "$root/usr/bin/env"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\naudio:x:29:user\nvideo:x:44:user\n' >"$root/etc/group"
while (($#)); do
  [ "$1" = --add ] && (($# >= 2)) || usage
  install -D -m 755 "${2%%:*}" "$root/${2#*:}"
  shift 2
done
chmod 1777 "$root/tmp"
chmod 700 "$root/root"

archive() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -C "$1" -cf "$2" .; }
archive "$root" "$work/layer.tar"

# blob FILE: puts FILE among the blobs and prints "sha256:<hex> <size>".
blob() {
  local sum
  sum=$(sha256sum "$1" | cut -d' ' -f1)
  mv "$1" "$layout/blobs/sha256/$sum"
  echo "sha256:$sum $(stat -c %s "$layout/blobs/sha256/$sum")"
}

read -r layer layer_size < <(blob "$work/layer.tar")
cat >"$work/config.json" <<JSON
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":$command,"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["$layer"]},"history":[{"created_by":"make-image.sh"}]}
JSON
read -r config config_size < <(blob "$work/config.json")
cat >"$work/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(blob "$work/manifest.json")
cat >"$layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"$manifest","size":$manifest_size,"platform":{"architecture":"amd64","os":"linux"},"annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"${name##*:}"}}]}
JSON
printf '{"imageLayoutVersion":"1.0.0"}\n' >"$layout/oci-layout"
archive "$layout" "$out"
