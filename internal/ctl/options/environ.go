package options

import (
	"fmt"
	"os"
	"strings"
)

// environOptions are the options that the environment sets if the command line does
// not. There is a variable for the file that holds the token, and DKV_TOKEN.
var environOptions = map[string]string{
	"DKVCTL_ADDR":          "dkvAddr",
	"DKVCTL_TLS":           "tls",
	"DKVCTL_TLS_CA_FILE":   "caCert",
	"DKVCTL_TLS_CERT_FILE": "cert",
	"DKVCTL_TLS_KEY_FILE":  "key",
	"DKVCTL_TOKEN_FILE":    "tokenFile",
}

// FromEnvironment sets from the environment what the command line does not set, and
// reads the token.
func (o *Options) FromEnvironment(lookup func(string) (string, bool)) error {
	byName := make(map[string]*Option)
	for _, option := range Table() {
		byName[option.Name] = option
	}
	for variable, name := range environOptions {
		value, ok := lookup(variable)
		if !ok || value == "" || o.Given[name] {
			continue
		}
		if err := byName[name].set(o, value); err != nil {
			return Usagef("%s=%s: %v", variable, value, err)
		}
	}
	return o.readToken(lookup)
}

// readToken finds the bearer token: -token, then -tokenFile or its variable, then
// DKV_TOKEN.
func (o *Options) readToken(lookup func(string) (string, bool)) error {
	switch {
	case o.Given["token"]:
		return nil
	case o.tokenFile == "":
		o.Token, _ = lookup("DKV_TOKEN")
		return nil
	}
	raw, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return fmt.Errorf("the token cannot be read: %w", err)
	}
	if o.Token = strings.TrimSpace(string(raw)); o.Token == "" {
		return fmt.Errorf("%s holds no token", o.tokenFile)
	}
	return nil
}
