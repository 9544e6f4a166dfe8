#!/usr/bin/env bash
# Builds the binding and runs YCSB's workloads a to f against running nodes, and prints a summary of each.
#
#   extras/ycsb/run.sh [-a HOST:PORT,...] [-w "a b c d e f"] [-r RECORDS] [-n OPERATIONS] [-t THREADS] [-- -p KEY=VALUE ...]
#
# The addresses are those of `make cluster` by default. Output of each run: extras/ycsb/target/runs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
addresses=127.0.0.1:9081,127.0.0.1:9082,127.0.0.1:9083
workloads="a b c d e f"
records=10000
operations=20000
threads=16
usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit "$1"; }
while getopts a:w:r:n:t:h option; do
  case $option in
    a) addresses=$OPTARG ;;
    w) workloads=$OPTARG ;;
    r) records=$OPTARG ;;
    n) operations=$OPTARG ;;
    t) threads=$OPTARG ;;
    h) usage 0 ;;
    *) usage 2 >&2 ;;
  esac
done
shift $((OPTIND - 1))

export MAVEN_OPTS=${MAVEN_OPTS:--Xmx512m}
mvn -q -B -f "$here/../../clients/java" install -DskipTests
mvn -q -B -f "$here" package
runs=$here/target/runs
mkdir -p "$runs"

ycsb() { # MODE WORKLOAD FILE [YCSB'S OPTIONS]
  local mode=$1 workload=$2 out=$3
  shift 3
  if ! java -Xmx512m -cp "$here/target/classes:$here/target/lib/*" site.ycsb.Client "$mode" \
    -db org.dkv.ycsb.DKVYCSBClient -P "$here/workloads/$workload" -threads "$threads" \
    -p recordcount="$records" -p operationcount="$operations" -p dkv.addresses="$addresses" \
    -p measurementtype=hdrhistogram "$@" >"$out" 2>"$out.log"; then
    echo "ycsb $mode of workload $workload failed; see $out.log:" >&2
    tail -n 5 "$out.log" >&2
    exit 1
  fi
}

summary() { # TITLE FILE
  echo "$1"
  awk -F', ' '/^\[OVERALL\], Throughput/ {printf "  %.0f operations/s\n", $3}
    $1 ~ /^\[(READ|UPDATE|INSERT|SCAN|READ-MODIFY-WRITE)\]$/ && $2 ~ /^(Operations|AverageLatency|95thPercentileLatency|99thPercentileLatency)/ {print "  " $1 " " $2 " " $3}
    $2 ~ /^Return=/ && $2 != "Return=OK" {print "  " $1 " " $2 " " $3}' "$2"
}

ycsb -load a "$runs/load" "$@"
summary "load of $records records" "$runs/load"
for w in $workloads; do
  ycsb -t "$w" "$runs/$w" "$@"
  summary "workload $w" "$runs/$w"
done
