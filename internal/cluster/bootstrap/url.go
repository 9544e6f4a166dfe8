package bootstrap

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	scheme    = "http://"
	tlsScheme = "https://"
	// maxHost is the longest host name of the DNS.
	maxHost = 253
)

// ParseURL returns the host:port of a node's Raft address in its one canonical
// spelling, such as 10.0.0.1:9021, [::1]:9021 or dkv-0.dkv:9021. The text is
// http://host:port; the scheme may be missing, and https:// means the same,
// since TLS is a setting of its own. Errors wrap ErrConfig.
func ParseURL(text string) (string, error) {
	rest := strings.TrimSpace(text)
	for _, s := range []string{scheme, tlsScheme} {
		if len(rest) >= len(s) && strings.EqualFold(rest[:len(s)], s) {
			rest = rest[len(s):]
			break
		}
	}
	rest = strings.TrimSuffix(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil || strings.ContainsAny(rest, "/?#@ ") || !utf8.ValidString(rest) {
		return "", fmt.Errorf("%w: %q is not a Raft address: write http://host:port", ErrConfig, redact(text))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(port, "+") {
		return "", fmt.Errorf("%w: %q has no valid port: write a number from 1 to 65535 after the colon", ErrConfig, text)
	}
	host, ok := canonicalHost(host)
	if !ok {
		return "", fmt.Errorf("%w: %q has no valid host: write the IP address or host name that the other nodes reach", ErrConfig, text)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// redact hides the part of a URL that may be a password.
func redact(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return "..." + text[i:]
	}
	return text
}

// canonicalHost returns the one spelling of a host that can be connected to.
func canonicalHost(host string) (string, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.String(), !ip.IsUnspecified() && !ip.IsMulticast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > maxHost {
		return "", false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return "", false
		}
	}
	return host, true
}

// FormatURL returns the URL of a host:port that ParseURL returned.
func FormatURL(hostport string) string { return scheme + hostport }

// canonicalURL returns a URL in the spelling of identity files and messages.
func canonicalURL(text string) (string, error) {
	hostport, err := ParseURL(text)
	if err != nil {
		return "", err
	}
	return FormatURL(hostport), nil
}

// hostPort is the host:port of a canonical URL.
func hostPort(canonical string) string { return strings.TrimPrefix(canonical, scheme) }

// canonicalPeers returns a list's distinct URLs in order: the same list on all nodes for
// which the same nodes were typed.
func canonicalPeers(peers []string) ([]string, error) {
	out := make([]string, 0, len(peers))
	for _, p := range peers {
		u, err := canonicalURL(p)
		if err != nil {
			return nil, fmt.Errorf("nexus-cluster-url: %w", err)
		}
		out = append(out, u)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Host knows the addresses of a machine.
type Host struct {
	// Addrs are the addresses of its interfaces; loopback addresses are every
	// machine's own and need not be there.
	Addrs []netip.Addr
	// Lookup resolves host names; nil leaves them unresolved.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// owns reports whether a host in canonical spelling is this machine.
func (h Host) owns(ctx context.Context, host string) bool {
	if host == "localhost" {
		return true
	}
	own := func(ip netip.Addr) bool {
		ip = ip.Unmap()
		return ip.IsLoopback() || slices.ContainsFunc(h.Addrs, func(a netip.Addr) bool {
			return a.Unmap().WithZone("") == ip.WithZone("")
		})
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return own(ip)
	}
	if h.Lookup == nil {
		return false
	}
	ips, err := h.Lookup(ctx, host)
	return err == nil && slices.ContainsFunc(ips, own)
}

// OwnURL picks the only entry of peers that is the machine h, in canonical
// spelling. Errors wrap ErrConfig and name the entries.
func OwnURL(ctx context.Context, peers []string, h Host) (string, error) {
	list, err := canonicalPeers(peers)
	if err != nil {
		return "", err
	}
	var own []string
	for _, u := range list {
		host, _, err := net.SplitHostPort(hostPort(u))
		if err == nil && h.owns(ctx, host) {
			own = append(own, u)
		}
	}
	switch len(own) {
	case 1:
		return own[0], nil
	case 0:
		return "", fmt.Errorf("%w: no entry of nexus-cluster-url (%s) is an address of this machine: set nexus-node-url",
			ErrConfig, listed(list))
	}
	return "", fmt.Errorf("%w: %d entries of nexus-cluster-url are this machine (%s): choose one with nexus-node-url",
		ErrConfig, len(own), listed(own))
}

// listed joins URLs for a message.
func listed(urls []string) string {
	if len(urls) == 0 {
		return "empty"
	}
	return strings.Join(urls, ", ")
}
