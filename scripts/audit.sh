#!/bin/sh
# Reports the known vulnerabilities that the programs are affected by, with govulncheck.
#
# Environment:
#   GOVULNDB  the vulnerability database (default https://vuln.go.dev); on a host without
#             a network, a copy of it: file:///folder
#
# Exit codes: 0 if there are none, 3 if there are some, 2 if the database cannot be had.
set -eu

log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 "${@:-./...}" 2>"$log" || code=$?
cat "$log" >&2
case $code in
0) echo 'audit: no known vulnerability affects the programs' ;;
*)
	if grep -qE 'fetching vulnerabilities|vuln\.go\.dev|no such host|dial tcp|proxyconnect' "$log"; then
		echo "audit: NOT DONE: the vulnerability database ${GOVULNDB:-https://vuln.go.dev} cannot be had. Run it where there is a network, or set GOVULNDB to a copy (file:///folder)." >&2
		exit 2
	fi
	if grep -q 'exit status 3' "$log"; then exit 3; fi
	exit "$code"
	;;
esac
