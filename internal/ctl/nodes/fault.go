package nodes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

// notRunning is what to do about an address where nothing answers.
const notRunning = "is dkvsrv running there? -a HOST:PORT names another address"

// advice returns what to do about a connection that failed with this text of gRPC and
// crypto/tls: there is no other sign of what the two sides disagree about.
func advice(o *options.Options, text string) string {
	faults := clearFaults
	if usesTLS(o) {
		faults = tlsFaults
	}
	for _, f := range slices.Concat(reachFaults, faults) {
		for _, sign := range f.signs {
			if strings.Contains(text, sign) {
				return f.advice(o)
			}
		}
	}
	return notRunning
}

// fault is a reason for a failed connection that shows in its text.
type fault struct {
	signs  []string
	advice func(*options.Options) string
}

// refusesClear reports whether a request failed since the server told the connection to go
// away before it had one. Servers that require TLS do that; one that stops does it too.
func refusesClear(o *options.Options, text string) bool {
	return !usesTLS(o) && (strings.Contains(text, draining) || strings.Contains(text, inadequateSecurity))
}

// How gRPC reports a connection that the server ends when it begins: as one for no further
// requests, or with HTTP/2's reason.
const (
	draining           = "the connection is draining"
	inadequateSecurity = "INADEQUATE_SECURITY"
)

// reachFaults are the reasons before anything was said.
var reachFaults = []fault{{
	signs:  []string{"no such host"},
	advice: says("check how the name is spelled (getent hosts NAME), or write the address in numbers"),
}, {
	signs:  []string{"i/o timeout", "no route to host", "network is unreachable"},
	advice: says("is the host up, and does a firewall between here and there drop the connection?"),
}, { // this side has closed a connection on which nothing came
	signs:  []string{"use of closed network connection", "context deadline exceeded"},
	advice: says("it takes connections and says nothing: is its process stopped, or its machine overloaded?"),
}}

var clearFaults = []fault{{
	signs: []string{"looked like an HTTP/1.1 header"},
	advice: says("this is an HTTP port (http-listen-addr), or a node that requires TLS: -a names the gRPC port (listen-addr); for TLS, -caCert FILE " +
		"(DKVCTL_TLS_CA_FILE) names the cluster's authority"),
}, {
	signs:  []string{"error reading server preface", "frame too large", draining, inadequateSecurity},
	advice: says("does it require TLS? -caCert FILE (DKVCTL_TLS_CA_FILE) names the cluster's authority, -tls takes the system's"),
}, { // the connection ended without a word of gRPC
	signs: []string{"broken pipe", "connection reset by peer", "EOF"},
	advice: says("what listens there ends the connection: is it a node's Raft port (nexus-node-url)? -a names the gRPC port (listen-addr). " +
		"If it is that, the node stops: try again"),
}}

var tlsFaults = []fault{{
	signs: []string{"signed by unknown authority"},
	advice: func(o *options.Options) string {
		if o.CAFile == "" {
			return "-caCert FILE (DKVCTL_TLS_CA_FILE) names the authority that has issued it; without that, those of the system count"
		}
		return fmt.Sprintf("none of the authorities in %s has issued its certificate: is it a node of this cluster?", o.CAFile)
	},
}, {
	signs: []string{"x509: certificate is valid for", "x509: cannot validate certificate for", "x509: certificate is not valid for any names"},
	advice: says("issue a certificate with that name (dkvctl -certs node), or expect a name that it carries: -authority NAME; " +
		"the certificates of nodes carry dkv-node"),
}, {
	signs:  []string{"has expired or is not yet valid"},
	advice: says("renew the node's certificate (dkvctl -certs rotate), or correct the clock that is wrong"),
}, {
	signs:  []string{"does not look like a TLS handshake"},
	advice: says("it does not speak TLS: leave out -tls, -caCert, -cert and -key, and unset DKVCTL_TLS and DKVCTL_TLS_*"),
}, {
	signs:  []string{"tls: certificate required", "client didn't provide a certificate"},
	advice: says("it accepts only clients with a certificate: -cert FILE -key FILE"),
}, {
	signs: []string{"remote error: tls: bad certificate", "remote error: tls: unknown certificate", "remote error: tls: expired certificate",
		"remote error: tls: unsupported certificate", "remote error: tls: revoked certificate"},
	advice: func(o *options.Options) string {
		return fmt.Sprintf("it does not accept the certificate in %s: dkvctl -certs show %[1]s says for whom and how long it is valid", o.CertFile)
	},
}, {
	signs:  []string{"tls: protocol version not supported"},
	advice: says("it accepts other versions of TLS only (tls-min-version)"),
}, { // the connection ended before the server's reason was read
	signs: []string{"broken pipe", "connection reset by peer", "EOF"},
	advice: func(o *options.Options) string {
		if o.CertFile == "" {
			return "does it accept only clients with a certificate? -cert FILE -key FILE"
		}
		return notRunning
	},
}}

func says(text string) func(*options.Options) string {
	return func(*options.Options) string { return text }
}

// unauthenticated returns what to do when a server does not know the caller.
func unauthenticated(o *options.Options) string {
	switch {
	case o.TokenFile != "":
		return "the token came from " + o.TokenFile
	case o.Token != "":
		return "the token came from DKVCTL_TOKEN"
	case o.CertFile != "":
		return "no token was sent, and the names in " + o.CertFile + " are not known there (auth-file)"
	}
	return "neither a token nor a certificate was sent: -tokenFile FILE (DKVCTL_TOKEN_FILE), or -cert and -key"
}
