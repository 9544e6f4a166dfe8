#!/usr/bin/env bash
# Makes what a release consists of: release.sh VERSION BIN OUT
#
#   VERSION  as git describe prints it: v1.2.0, or v1.2.0-5-g1a2b3c4 for what comes after
#   BIN      the folder of the programs, which are for this machine's architecture
#   OUT      an empty folder for the archive, the packages and the chart
#
# build/chart is the tool in tools/chart.
#
# With the same programs and the same SOURCE_DATE_EPOCH (the time of the last commit, if it
# is not set) the files are the same, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$1 bin=$2 out=$3
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
# What comes before a release sorts before it (1.2.0~rc1), and what comes after, after it.
PACKAGE_VERSION=$(sed -E 's/^v//; /^[0-9]+\.[0-9]+\.[0-9]+/!s/^/0.0.0+/; s/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/; s/-dirty$/.dirty/; s/-/~/' <<<"$version")
# Packages name architectures as Go does.
ARCH=$(go env GOARCH)
# The newest C library whose symbols the programs use.
GLIBC=$({ objdump -T "$bin/dkvsrv"; objdump -T "$bin/dkvctl" || true; } | grep -oE 'GLIBC_[0-9.]+' | sort -V | tail -1 | cut -d_ -f2)
export PACKAGE_VERSION ARCH GLIBC

if objdump -p "$bin/dkvsrv" | grep -q 'NEEDED.*librocksdb'; then
  echo "release.sh: $bin/dkvsrv needs the RocksDB of this machine: build it with ROCKSDB_LINK=static" >&2
  exit 1
fi

STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT

# stage gathers what archive and packages contain.
stage() {
  cp "$bin/dkvsrv" "$bin/dkvctl" dkvsrv.yaml LICENSE NOTICE README.md CHANGELOG.md deploy/systemd/dkvsrv.service "$STAGE/"
  mkdir "$STAGE/man" "$STAGE/completion"
  local page shell
  for page in dkvsrv.8 dkvctl.1; do
    gzip -9 -n <"deploy/man/$page" >"$STAGE/man/$page.gz"
  done
  for shell in bash zsh fish; do
    "$bin/dkvctl" -completion "$shell" >"$STAGE/completion/dkvctl.$shell"
  done
}

# archive FILE TOP FOLDER packs a folder, as TOP, whose files all get the same time and owner.
archive() {
  tar -C "$3" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go+rX,go-w \
    --transform="s,^\.,$2," -cf - . | gzip -9 -n >"$out/$1"
}

# pack_chart VERSION packs the chart. Helm gives its files the time of the packing, so they
# are packed again.
pack_chart() {
  mkdir "$STAGE/chart"
  build/chart pack . "$1" "$STAGE/chart" >/dev/null
  tar -C "$STAGE/chart" -xmzf "$STAGE/chart/dkv-$1.tgz"
  archive "dkv-$1.tgz" dkv "$STAGE/chart/dkv"
}

mkdir -p "$out"
stage
archive "dkv-$PACKAGE_VERSION-linux-$ARCH.tar.gz" "dkv-$PACKAGE_VERSION-linux-$ARCH" "$STAGE"
go -C tools/nfpm build -o "$PWD/build/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
# nfpm expands no variables in the names of files.
sed "s,\${STAGE},$STAGE,g" deploy/packages/nfpm.yaml >build/nfpm.yaml
for packager in deb rpm; do
  build/nfpm package --config build/nfpm.yaml --packager "$packager" --target "$out/"
done
# A chart's version has the form of semantic versions.
pack_chart "$(sed -E 's/^v//; /^[0-9]+\.[0-9]+\.[0-9]+/!s/^/0.0.0-g/' <<<"$version")"
