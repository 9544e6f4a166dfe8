package dkv

import (
	"net"
	"strconv"
	"strings"
)

// discoveryScheme begins a target that names registries instead of nodes.
const discoveryScheme = "discovery://"

// target is the addresses that a client starts from.
type target struct {
	addrs []string
	// discovery reports that the addresses are those of registries instead of nodes.
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
			return out, errorf(ErrInvalid, "target %q: nothing may follow the database's name", s)
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
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return &net.AddrError{Err: "the host has a space or a control character", Addr: strconv.Quote(addr)}
	}
	return nil
}

// dialable reports whether an address that a node advertises can be used from another
// host: a node that listens on all interfaces may know no other address than 0.0.0.0.
func dialable(addr string) bool {
	if checkAddress(addr) != nil {
		return false
	}
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsUnspecified()
}
