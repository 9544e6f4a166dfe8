#!/usr/bin/env bash
# Installs a Go that can fetch the toolchain go.mod asks for (1.21 or newer), as
# root: Debian's, or its backports' where Debian's is older. Does nothing where
# there is one.
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
usable || { echo "go.sh: no Go 1.21 or newer is to be had from $VERSION_CODENAME; use a BUILD_IMAGE that has one" >&2; exit 1; }
