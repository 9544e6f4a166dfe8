#!/bin/sh
# Determines how the Go build finds and links RocksDB.
#
#   scripts/cgo-env.sh             print NAME=value lines, for make to include
#   scripts/cgo-env.sh COMMAND...  run COMMAND with them in its environment
#
# Environment:
#   ROCKSDB_PREFIX  use the RocksDB below this folder (include/, lib/) instead
#                   of the system's
#   ROCKSDB_LINK    static, dynamic, or auto (the default). auto is static if all
#                   archives are installed, so that the binary needs only the C
#                   library at run time, and dynamic otherwise.
#   ROCKSDB_LIBS    further linker arguments for a static RocksDB of your own
#   GROCKSDB        build with this version of github.com/linxGnu/grocksdb (v1.8.12),
#                   whatever RocksDB is found
#   CC, CXX         the compilers that cgo uses
#   CGO_CFLAGS, CGO_CXXFLAGS, CGO_LDFLAGS  are kept, after the added arguments
#
# Building and testing must use the same values: with any difference Go compiles
# its cgo packages again. What this script generates is therefore outside of the source
# tree, under a name that depends on its content only: all clones of a user name the same
# paths, and share what is compiled.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cc=${CC:-gcc}
cxx=${CXX:-g++}
link=${ROCKSDB_LINK:-auto}
prefix=${ROCKSDB_PREFIX:-}
cflags=${CGO_CFLAGS:--O2 -g}
cxxflags=${CGO_CXXFLAGS:--O2 -g}
ldflags=${CGO_LDFLAGS:--O2 -g}

fail() {
	echo "cgo-env.sh: $*" >&2
	exit 1
}

case $link in
static | dynamic | auto) ;;
*) fail "ROCKSDB_LINK=$link: use static, dynamic or auto" ;;
esac

# archive NAME prints the path at which the compiler finds libNAME.a, and fails if
# there is none.
archive() {
	path=$($cxx -print-file-name="lib$1.a" 2>/dev/null) || return 1
	case $path in
	/*) [ -f "$path" ] && echo "$path" ;;
	*) return 1 ;;
	esac
}

libdir=
if [ -n "$prefix" ]; then
	[ -f "$prefix/include/rocksdb/c.h" ] ||
		fail "ROCKSDB_PREFIX=$prefix: it does not contain include/rocksdb/c.h"
	triplet=$($cc -print-multiarch 2>/dev/null || true)
	for d in "lib/$triplet" lib64 lib; do
		for f in "$prefix/$d"/librocksdb.*; do
			[ -e "$f" ] && [ -z "$libdir" ] && libdir=$(cd "$prefix/$d" && pwd)
		done
	done
	[ -n "$libdir" ] || fail "ROCKSDB_PREFIX=$prefix: its lib folder does not contain librocksdb"
	cflags="-I$prefix/include $cflags"
	cxxflags="-I$prefix/include $cxxflags"
fi

# find_archives sets three variables: rocksdb to RocksDB's archive, needed to the
# archives that the Go packages name with -l and that would otherwise be linked
# dynamically, and optional to those that RocksDB may have been built with.
find_archives() {
	if [ -n "$libdir" ]; then
		rocksdb=$libdir/librocksdb.a
		[ -f "$rocksdb" ] || return 1
	else
		rocksdb=$(archive rocksdb) || return 1
	fi
	needed=
	for lib in snappy lz4 zstd z stdc++; do
		path=$(archive "$lib") || return 1
		needed="$needed $path"
	done
	optional=$(archive bz2) || optional=
}

# keep NAME DIR moves a new folder to its place, generated/NAME-CHECKSUM, unless an equal
# one is there, and prints that. The checksum is over the files and the targets of links.
keep() {
	sum=$(cd "$2" && for f in *; do
		echo "$f $(readlink "$f" || cat "$f")"
	done | cksum | tr -d ' ')
	if ! mv -T "$2" "$generated/$1-$sum" 2>/dev/null; then
		rm -rf "$2"
		[ -d "$generated/$1-$sum" ] || fail "$generated/$1-$sum cannot be created"
	fi
	echo "$generated/$1-$sum"
}

generated=${XDG_CACHE_HOME:-${HOME:-}/.cache}/dkv
mkdir -p "$generated" 2>/dev/null && [ -w "$generated" ] || generated=$root/build
mkdir -p "$generated"

if [ "$link" != dynamic ] && find_archives; then
	# The linker uses the first folder that has a library, shared or not, so this
	# folder contains archives only. librocksdb.a is a linker script that adds what
	# RocksDB itself needs, whatever the order of the -l options.
	next=$(mktemp -d "$generated/next.XXXXXX")
	chmod 755 "$next"
	for path in $needed; do
		ln -s "$path" "$next/"
	done
	echo "GROUP ( $rocksdb $needed $optional )" >"$next/librocksdb.a"
	dir=$(keep lib "$next")
	ldflags="-L$dir -static-libgcc -static-libstdc++ ${ROCKSDB_LIBS:+$ROCKSDB_LIBS }$ldflags"
elif [ "$link" = static ]; then
	fail "ROCKSDB_LINK=static: an archive is missing; install librocksdb-dev, libsnappy-dev, liblz4-dev, libzstd-dev, zlib1g-dev and libbz2-dev"
elif [ -n "$libdir" ]; then
	ldflags="-L$libdir -Wl,-rpath,$libdir ${ROCKSDB_LIBS:+$ROCKSDB_LIBS }$ldflags"
fi

# find_rocksdb sets version to the RocksDB that the compiler finds, such as 8.9.1.
find_rocksdb() {
	# shellcheck disable=SC2086 # the flags are several words
	version=$(echo '#include <rocksdb/version.h>' | $cxx -E -dM $cxxflags -x c++ - 2>/dev/null |
		awk '$2 ~ /^ROCKSDB_(MAJOR|MINOR|PATCH)$/ { v[$2] = $3 }
			END { if (length(v) == 3) print v["ROCKSDB_MAJOR"] "." v["ROCKSDB_MINOR"] "." v["ROCKSDB_PATCH"] }')
	[ -n "$version" ] || fail "RocksDB's headers are missing: run make deps, or set ROCKSDB_PREFIX"
}

# binding prints the release of grocksdb for a RocksDB: each is written for one version and
# needs what that has. Nothing stands for the release that go.mod names.
binding() {
	case $1 in
	7.8.* | 7.9.* | 7.10.*) ;;
	8.9.* | 8.10.* | 8.11.*) echo v1.8.12 ;;
	9.8.* | 9.9.* | 9.10.* | 9.11.*) echo v1.9.8 ;;
	*) fail "RocksDB $1 is not supported: use 7.8 to 7.10 (Debian 12), 8.9 to 8.11 (Ubuntu 24.04) or 9.8 to 9.11 (Debian 13), \
with ROCKSDB_PREFIX if it is not the system's; to try a release of grocksdb with this one, set GROCKSDB, such as GROCKSDB=v1.8.12" ;;
	esac
}

# modfile prints a copy of go.mod that requires a release of grocksdb. The checksums of
# releases beside that of go.mod are in grocksdb.sum.
modfile() {
	next=$(mktemp -d "$generated/next.XXXXXX")
	sed "s,\(github.com/linxGnu/grocksdb\) v[^ ]*,\1 $1," "$root/go.mod" >"$next/go.mod"
	sort -u "$root/go.sum" "$root/scripts/grocksdb.sum" >"$next/go.sum"
	kept=$(keep "grocksdb-$1" "$next") || exit 1
	echo "$kept/go.mod"
}

release=${GROCKSDB:-}
if [ -z "$release" ]; then
	find_rocksdb
	release=$(binding "$version")
fi
goflags=${GOFLAGS:-}
if [ -n "$release" ]; then
	goflags="$goflags${goflags:+ }-modfile=$(modfile "$release")"
fi

if [ $# -gt 0 ]; then
	[ -z "$goflags" ] || export GOFLAGS="$goflags"
	CGO_CFLAGS=$cflags CGO_CXXFLAGS=$cxxflags CGO_LDFLAGS=$ldflags exec "$@"
fi
echo "CGO_CFLAGS=$cflags"
echo "CGO_CXXFLAGS=$cxxflags"
echo "CGO_LDFLAGS=$ldflags"
[ -z "$goflags" ] || echo "GOFLAGS=$goflags"
