package nodes

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// TestAdvice holds that each sign of a wrong address leads to what to do about it.
func TestAdvice(t *testing.T) {
	for text, want := range map[string]string{
		"dial tcp: lookup nohost: no such host":                                                               "how the name is spelled",
		"dial tcp 10.0.0.1:1: i/o timeout":                                                                    "firewall",
		"dial tcp 10.0.0.1:1: connect: connection refused":                                                    "is dkvsrv running there?",
		"http2: frame too large, note that the frame header looked like an HTTP/1.1 header":                   "this is an HTTP port",
		"write tcp 10.0.0.1:2->10.0.0.1:1: write: broken pipe":                                                "Raft port",
		"error reading server preface: http2: frame too large":                                                "does it require TLS?",
		"error reading server preface: raw-read tcp 10.0.0.1:2->10.0.0.1:1: use of closed network connection": "is its process stopped",
	} {
		if got := advice(&options.Options{}, text); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	secure := &options.Options{TLS: true}
	for text, want := range map[string]string{
		"lookup nohost: no such host":                          "how the name is spelled",
		"tls: first record does not look like a TLS handshake": "does not speak TLS",
		"EOF": "only clients with a certificate",
		"authentication handshake failed: context deadline exceeded": "is its process stopped",
	} {
		if got := advice(secure, text); !strings.Contains(got, want) {
			t.Errorf("with TLS, %s: %s, want %s", text, got, want)
		}
	}
}
