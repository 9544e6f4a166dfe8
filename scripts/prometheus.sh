#!/usr/bin/env bash
# Unpacks Debian's prometheus and promtool into build/prometheus, for tests/deploy, unless both
# are on the PATH. The package is not installed, since that would start a server.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
  exit 0
fi
into=build/prometheus
[ ! -x "$into/usr/bin/promtool" ] || exit 0
mkdir -p build
work=$(mktemp -d build/unpack.XXXXXX)
trap 'rm -rf "$work"' EXIT

# download fails if apt has no list of packages, or an old one.
download() { (cd "$work" && apt-get download -q prometheus); }
if ! download 2>/dev/null; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -q
  download
fi
dpkg-deb -x "$work"/prometheus_*.deb "$work/x"
rm -rf "$into"
mv "$work/x" "$into"
