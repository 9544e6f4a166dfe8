package dkv

import (
	"net"
	"strconv"
	"strings"
)

// discoveryScheme begins a target that names registries instead of nodes.
const discoveryScheme = "discovery://"

// target is where a client begins.
type target struct {
	addrs []string
	// discovery tells that the addresses are those of registries, of the nodes of
	// a database.
	discovery bool
	database  string
}

// parseTarget reads "host:port,..." or "discovery://host:port,.../database".
func parseTarget(s string) (target, error) {
	list, is := strings.CutPrefix(s, discoveryScheme)
	out := target{discovery: is}
	if is {
		list, out.database, _ = strings.Cut(list, "/")
		if strings.Contains(out.database, "/") {
			return out, errorf(ErrInvalid, "target %q: the database's name ends the target", s)
		}
	} else if strings.Contains(s, "://") {
		return out, errorf(ErrInvalid, "target %q: write HOST:PORT,... or %sHOST:PORT,.../DATABASE", s, discoveryScheme)
	}
	seen := make(map[string]bool)
	for addr := range strings.SplitSeq(list, ",") {
		addr = strings.TrimSpace(addr)
		if err := checkAddress(addr); err != nil {
			return out, errorf(ErrInvalid, "target %q: %w", s, err)
		}
		if !seen[addr] {
			seen[addr] = true
			out.addrs = append(out.addrs, addr)
		}
	}
	return out, nil
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &net.AddrError{Err: "the port is not a number from 1 to 65535", Addr: addr}
	}
	if host == "" {
		return &net.AddrError{Err: "the host is missing", Addr: addr}
	}
	return nil
}

// dialable tells whether an address that a node tells of itself can be used from
// elsewhere: one that listens everywhere may only know that.
func dialable(addr string) bool {
	if checkAddress(addr) != nil {
		return false
	}
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsUnspecified()
}
