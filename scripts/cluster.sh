#!/usr/bin/env bash
# Runs a whole cluster on this host until Ctrl-C: three discovery nodes, three
# masters and two slaves, all on the loopback address. Data and logs stay in
# CLUSTER_DIR (data/cluster), and the next start continues with them. SECURE names a
# folder with the certificates and the auth-file of dkvctl -certs and -token: all nodes
# then require TLS and credentials.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${CLUSTER_DIR:-data/cluster}
names=() pids=() commands=() security=()

# secure sets the arguments that make nodes use the files in a folder.
secure() {
  local file
  for file in ca.pem node-localhost.pem node-localhost.key auth.yaml; do
    if [ ! -e "$1/$file" ]; then
      echo "$1/$file is missing; these commands make what a secure cluster needs:" >&2
      printf '  ./bin/dkvctl %s\n' "-certs init -dir $1" "-certs node -dir $1" \
        "-token new me -role admin -authFile $1/auth.yaml -tokenFile $1/me.token" >&2
      exit 1
    fi
  done
  security=(--tls-mode required --tls-ca-file "$1/ca.pem" --tls-cert-file "$1/node-localhost.pem"
    --tls-key-file "$1/node-localhost.key" --auth-file "$1/auth.yaml")
}

# start NAME GRPC-PORT ARGUMENTS... starts a node; its HTTP port is GRPC-PORT + 1000.
start() {
  local name=$1 port=$2
  local -a command=(./bin/dkvsrv --config dkvsrv.yaml --node-name "$name" --db-folder "$dir/$name"
    --listen-addr "127.0.0.1:$port" --http-listen-addr "127.0.0.1:$((port + 1000))" ${security[@]+"${security[@]}"} "${@:3}")
  "${command[@]}" >"$dir/$name.log" 2>&1 &
  names+=("$name") pids+=($!) commands+=("${command[*]}")
}

# urls PORT prints three Raft addresses, from that port on.
urls() { echo "http://127.0.0.1:$1,http://127.0.0.1:$(($1 + 1)),http://127.0.0.1:$(($1 + 2))"; }

# await COUNT waits until the first COUNT nodes have logged that they serve.
await() {
  local i
  for ((i = 0; i < $1; i++)); do
    until grep -q 'msg=serving' "$dir/${names[i]}.log"; do
      if ! kill -0 "${pids[i]}" 2>/dev/null; then
        echo "${names[i]} has ended; $dir/${names[i]}.log ends with:" >&2
        tail -n 3 "$dir/${names[i]}.log" >&2
        exit 1
      fi
      sleep 0.1
    done
  done
}

# stop ends the slaves first and the registry last, and waits for all of them.
stop() {
  trap - EXIT
  trap '' INT TERM
  local i
  for ((i = ${#names[@]} - 1; i >= 0; i--)); do
    [ -z "${pids[i]:-}" ] || kill "${pids[i]}" 2>/dev/null || true
  done
  wait
  echo 'stopped; the data is in '"$dir"
}

[ -z "${SECURE:-}" ] || secure "${SECURE%/}"
mkdir -p "$dir"
trap stop EXIT
trap 'exit 0' INT TERM
for i in 1 2 3; do
  start "discovery$i" $((8000 + i)) --role discovery \
    --nexus-node-url "http://127.0.0.1:$((9030 + i))" --nexus-cluster-url "$(urls 9031)"
done
for i in 1 2 3; do
  start "master$i" $((9080 + i)) --role master \
    --nexus-node-url "http://127.0.0.1:$((9020 + i))" --nexus-cluster-url "$(urls 9021)"
done
start slave1 9091 --role slave --db-engine rocksdb --repl-mode stream
start slave2 9092 --role slave --db-engine badger --diskless --repl-poll-interval 500ms
await ${#names[@]}
cat <<EOF
discovery  127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003
masters    127.0.0.1:9081 127.0.0.1:9082 127.0.0.1:9083
slaves     127.0.0.1:9091 (RocksDB, stream) 127.0.0.1:9092 (Badger in memory, poll)
logs       $dir/*.log; HTTP is 1000 above each port
${SECURE:+calls      need export DKVCTL_TLS_CA_FILE=${SECURE%/}/ca.pem DKVCTL_TOKEN_FILE=${SECURE%/}/me.token
}Ctrl-C stops all of them.
EOF
# A node that ends can be started again by hand; the others keep running.
for ((left = ${#pids[@]}; left > 0; left--)); do
  code=0
  wait -n -p ended "${pids[@]}" || code=$?
  for i in "${!pids[@]}"; do
    if [ "${pids[i]}" = "${ended:-}" ]; then
      echo "${names[i]} has ended with exit code $code; start it again with"
      echo "  ${commands[i]}"
      unset 'pids[i]'
    fi
  done
done
echo 'no node is running any more' >&2
exit 1
