#!/usr/bin/env bash
# Installs Debian packages as root or through sudo; does nothing if all of them are
# installed.
#
#   scripts/deps.sh build   packages for building and serving (make deps, make run)
#   scripts/deps.sh test    further packages for the tests (make test-deps, make test)
set -euo pipefail

packages=() commands=()
case ${1:-build} in
build)
  packages=(build-essential pkg-config librocksdb-dev git)
  ;;
test)
  # protoc checks the generated code. The others inject faults: partitions need
  # iptables and ip, power losses need a file system of their own.
  packages=(protobuf-compiler libprotobuf-dev iptables iproute2 e2fsprogs mount)
  # For the Java client's tests; any JDK and Maven on the PATH will do.
  # Chromium is for the tests of the console.
  commands=(javac:openjdk-17-jdk-headless mvn:maven chromium:chromium)
  ;;
*)
  echo "usage: scripts/deps.sh [build|test]" >&2
  exit 2
  ;;
esac

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
for c in "${commands[@]}"; do
  command -v "${c%%:*}" >/dev/null || missing+=("${c#*:}")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "all system packages for ${1:-build} are installed"
  exit 0
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "deps: run as root, or install sudo, to install: ${missing[*]}" >&2; exit 1; }
  root=(sudo)
fi
"${root[@]}" apt-get update -q
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
