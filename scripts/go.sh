#!/usr/bin/env bash
# Installs, as root, a Go that can download the toolchain that go.mod names (Go 1.21 or
# newer): Debian's, or that of its backports if Debian's is older. Does nothing if such
# a Go is installed.
set -euo pipefail

usable() {
  command -v go >/dev/null && [[ $(go env GOVERSION 2>/dev/null) =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 21 ]
}

usable && exit 0
apt-get update -q
apt-get install -q -y --no-install-recommends golang-go ca-certificates
usable && exit 0
. /etc/os-release
mirror=$(grep -rhoE 'https?://[^ ]+/debian/? ' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 | tr -d ' ' || true)
echo "deb ${mirror:-http://deb.debian.org/debian} $VERSION_CODENAME-backports main" > /etc/apt/sources.list.d/backports.list
apt-get update -q
apt-get install -q -y --no-install-recommends -t "$VERSION_CODENAME-backports" golang-go
usable || { echo "go.sh: $VERSION_CODENAME has no Go 1.21 or newer; use a BUILD_IMAGE that has one" >&2; exit 1; }
