#!/usr/bin/env bash
# Generates the Go code of api/*.proto below the given folder, with the plugins of the
# versions in go.mod.
set -euo pipefail

out=${1:?usage: scripts/proto.sh FOLDER}
cd "$(dirname "$0")/.."
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
module=$(go list -m)
PATH="$plugins:$PATH" protoc -I . \
  --go_out="$out" --go_opt="module=$module" \
  --go-grpc_out="$out" --go-grpc_opt="module=$module" \
  api/*.proto
