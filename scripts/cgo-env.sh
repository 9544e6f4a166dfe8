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
#   CC, CXX         the compilers that cgo uses
#   CGO_CFLAGS, CGO_CXXFLAGS, CGO_LDFLAGS  are kept, after the added arguments
#
# Building and testing must use the same values: with any difference Go compiles
# its cgo packages again.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$root/build/lib
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

if [ "$link" != dynamic ] && find_archives; then
	# The linker uses the first folder that has a library, shared or not, so this
	# folder contains archives only. librocksdb.a is a linker script that adds what
	# RocksDB itself needs, whatever the order of the -l options.
	next=$dir.$$
	rm -rf "$next"
	mkdir -p "$next"
	for path in $needed; do
		ln -s "$path" "$next/"
	done
	echo "GROUP ( $rocksdb $needed $optional )" >"$next/librocksdb.a"
	if ! diff -r "$next" "$dir" >/dev/null 2>&1; then
		rm -rf "$dir"
		mv -T "$next" "$dir" 2>/dev/null || true
	fi
	rm -rf "$next"
	ldflags="-L$dir -static-libgcc -static-libstdc++ ${ROCKSDB_LIBS:+$ROCKSDB_LIBS }$ldflags"
elif [ "$link" = static ]; then
	fail "ROCKSDB_LINK=static: an archive is missing; install librocksdb-dev, libsnappy-dev, liblz4-dev, libzstd-dev, zlib1g-dev and libbz2-dev"
elif [ -n "$libdir" ]; then
	ldflags="-L$libdir -Wl,-rpath,$libdir ${ROCKSDB_LIBS:+$ROCKSDB_LIBS }$ldflags"
fi

if [ $# -gt 0 ]; then
	CGO_CFLAGS=$cflags CGO_CXXFLAGS=$cxxflags CGO_LDFLAGS=$ldflags exec "$@"
fi
echo "CGO_CFLAGS=$cflags"
echo "CGO_CXXFLAGS=$cxxflags"
echo "CGO_LDFLAGS=$ldflags"
