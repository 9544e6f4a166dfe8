package options

import (
	"fmt"
	"os"
	"strings"

	"github.com/dkvdb/dkv/internal/auth/token"
)

// environOptions are the options that the environment sets if the command line does
// not. There is a variable for the file that holds the token, and DKVCTL_TOKEN.
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

// tokenVariable holds the token itself, for containers without files of secrets.
const tokenVariable = "DKVCTL_TOKEN"

// readToken finds the bearer token: in the file of -tokenFile or of its variable, then in
// DKVCTL_TOKEN. It is no option, since other users see command lines.
func (o *Options) readToken(lookup func(string) (string, bool)) error {
	if o.TokenFile == "" {
		o.Token, _ = lookup(tokenVariable)
		return checkToken(tokenVariable, o.Token)
	}
	raw, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return fmt.Errorf("the token cannot be read: %w", err)
	}
	if o.Token = strings.TrimSpace(string(raw)); o.Token == "" {
		return fmt.Errorf("%s holds no token", o.TokenFile)
	}
	return checkToken(o.TokenFile, o.Token)
}

// checkToken rejects what is not sent as a token, without showing it. What does not look
// like one of DKV's own may be a JWT.
func checkToken(source, text string) error {
	if strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return fmt.Errorf("what %s holds is no token: one line of printable characters without spaces", source)
	}
	if !strings.HasPrefix(text, token.Prefix) {
		return nil
	}
	if err := token.Check(text); err != nil {
		return fmt.Errorf("the token in %s cannot be right: %w", source, err)
	}
	return nil
}
