package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// addrValue is host:port. Its use decides whether host and port may be left open.
type addrValue struct {
	p *string
	// listen accepts an empty host (all interfaces) and port 0 (a free one);
	// otherwise the address is one to connect to.
	listen bool
	// optional accepts "".
	optional bool
}

func (v addrValue) set(text string) error {
	text = strings.TrimSpace(text)
	if text != "" || !v.optional {
		if err := checkAddr(text, v.listen); err != nil {
			return err
		}
	}
	*v.p = text
	return nil
}

func (v addrValue) text() string { return *v.p }
func (v addrValue) kind() string { return "HOST:PORT" }

// collectorValue is an address to connect to, or that behind https://; or "". A path may
// follow.
type collectorValue struct{ p *string }

func (v collectorValue) set(text string) error {
	text = strings.TrimSpace(text)
	if text != "" {
		addr, path, _ := strings.Cut(strings.TrimPrefix(text, "https://"), "/")
		if err := checkAddr(addr, false); err != nil {
			return err
		}
		if strings.ContainsAny(path, "?# ") {
			return fmt.Errorf("the path /%s has a query or a space: use a path such as /otlp, or none", path)
		}
	}
	*v.p = text
	return nil
}

func (v collectorValue) text() string { return *v.p }
func (v collectorValue) kind() string { return "HOST:PORT" }

// checkAddr returns what is wrong with an address; nil if it is valid.
func checkAddr(addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address: write host:port, such as 127.0.0.1:8080 or [::1]:8080", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%q has no valid port: write a number from 0 to 65535 after the colon", addr)
	}
	if host == "" && listen {
		return nil
	}
	if !validHost(host) {
		return fmt.Errorf("%q has no valid host: write an IP address or a host name before the colon", addr)
	}
	if !listen && (n == 0 || isUnspecified(host)) {
		return fmt.Errorf("%q cannot be connected to: write the host and port that others reach", addr)
	}
	return nil
}

// validHost reports whether host is an IP address or could be a host name.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > maxName || host[0] == '-' || strings.Contains(host, "..") || host[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(host, func(r rune) bool {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// isUnspecified reports whether host means all interfaces.
func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().IsUnspecified()
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// multiScheme is the prefix of a list of addresses in the field's existing files.
const multiScheme = "multi:///"

// addrListValue is a list of addresses to connect to.
type addrListValue struct {
	p        *[]string
	optional bool // the list may be empty
}

func (v addrListValue) set(text string) error {
	text = strings.TrimSpace(text)
	addrs, err := parseList(strings.TrimPrefix(text, multiScheme), func(s string) (string, error) {
		return s, checkAddr(s, false)
	})
	if err != nil {
		return err
	}
	if len(addrs) == 0 && !v.optional {
		return fmt.Errorf("%q names no address: write host:port, or several separated by commas", text)
	}
	*v.p = addrs
	return nil
}

func (v addrListValue) text() string {
	if v.optional { // a default that is empty, and a key that was one address once
		return strings.Join(*v.p, ",")
	}
	return multiScheme + strings.Join(*v.p, ",")
}

func (v addrListValue) kind() string { return "HOST:PORT,..." }

// urlValue is http://host:port, or "".
type urlValue struct{ p *string }

func (v urlValue) set(text string) error {
	text = strings.TrimSpace(text)
	if text != "" {
		var err error
		if text, err = parseURL(text); err != nil {
			return err
		}
	}
	*v.p = text
	return nil
}

func (v urlValue) text() string { return *v.p }
func (v urlValue) kind() string { return "URL" }

// urlListValue is a list of distinct http://host:port.
type urlListValue struct{ p *[]string }

func (v urlListValue) set(text string) error {
	urls, err := parseList(text, parseURL)
	if err != nil {
		return err
	}
	*v.p = urls
	return nil
}

func (v urlListValue) text() string { return strings.Join(*v.p, ",") }
func (v urlListValue) kind() string { return "URL,..." }

// parseURL checks an http(s)://host:port URL and returns it without a trailing slash.
// Nothing else may follow the port: Raft addresses have no path, and a password in
// one would appear in logs.
func parseURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is not a URL: write http://host:port", text)
	}
	if u.User != nil {
		return "", fmt.Errorf("the URL of %q contains a user name or password: write http://host:port", u.Host)
	}
	bare := u.Scheme + "://" + u.Host
	if !strings.EqualFold(strings.TrimSuffix(text, "/"), bare) {
		return "", fmt.Errorf("%q has more than a host and a port: write %s", text, bare)
	}
	if err := checkAddr(u.Host, false); err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	return bare, nil
}

// parseList reads elements separated by commas; "" is an empty list. Spaces around an
// element are dropped; an empty or repeated one is an error.
func parseList(text string, parse func(string) (string, error)) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var list []string
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(text, ",") {
		element, err := parse(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if seen[element] {
			return nil, fmt.Errorf("%q is there twice: write each address once", element)
		}
		seen[element] = true
		list = append(list, element)
	}
	return list, nil
}
