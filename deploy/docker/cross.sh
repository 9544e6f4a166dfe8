#!/usr/bin/env bash
# Prepares Debian's build stage for another architecture: cross.sh amd64|arm64 installs its
# compilers and libraries, and prints the environment to build with. For the architecture
# of this machine it does and prints nothing.
set -euo pipefail

arch=${1:-}
own=$(dpkg --print-architecture)
[ -n "$arch" ] && [ "$arch" != "$own" ] || exit 0
case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*)
  echo "cross.sh: $arch: only amd64 and arm64 are supported" >&2
  exit 2
  ;;
esac

{
  dpkg --add-architecture "$arch"
  apt-get update -q
  apt-get install -q -y --no-install-recommends "g++-${triplet//_/-}" "libc6-dev-$arch-cross" \
    "librocksdb-dev:$arch" "libsnappy-dev:$arch" "liblz4-dev:$arch" "libzstd-dev:$arch" "zlib1g-dev:$arch" "libbz2-dev:$arch"
} >&2
echo "GOARCH=$arch CGO_ENABLED=1 CC=$triplet-gcc CXX=$triplet-g++"
