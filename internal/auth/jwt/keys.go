package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxKeysSize is how large a file or answer with keys may be, and maxKeys how many it
	// may have.
	maxKeysSize = 1 << 20
	maxKeys     = 100
	// leastRSA is the shortest RSA key in bits that NIST SP 800-131A permits.
	leastRSA = 2048
)

// keys are where the keys come from.
type keys interface {
	// current returns the keys that are known; nil if none could be fetched yet.
	current() *Keys
	// refreshed is current after an attempt to fetch the keys again, if one is due.
	refreshed() *Keys
}

// Keys is a set of public keys. It is immutable.
type Keys struct{ all []jose.JSONWebKey }

func (k *Keys) current() *Keys   { return k }
func (k *Keys) refreshed() *Keys { return k }

// find returns the keys that may have signed a token: that which it names, or those that
// have no name.
func (k *Keys) find(header *jose.Header) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for _, key := range k.all {
		named := key.KeyID == "" || key.KeyID == header.KeyID
		if named && (key.Algorithm == "" || key.Algorithm == header.Algorithm) && fits(key.Key, header.Algorithm) && len(found) < maxCandidates {
			found = append(found, key)
		}
	}
	return found
}

// fits reports whether a key can make signatures of an algorithm.
func fits(key crypto.PublicKey, algorithm string) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return algorithm[:2] == "RS" || algorithm[:2] == "PS"
	case *ecdsa.PublicKey:
		return algorithm[:2] == "ES"
	default:
		return algorithm == string(jose.EdDSA)
	}
}

// readKeys reads a file with public keys: PEM, or a JWKS.
func readKeys(path string) (*Keys, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key-file of jwt: %w; name a file with public keys", err)
	}
	if info.Size() > maxKeysSize {
		return nil, fmt.Errorf("key-file of jwt: %s has %d bytes and may have %d: keep the keys that are in use", path, info.Size(), maxKeysSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key-file of jwt: %w; name a file with public keys", err)
	}
	var k *Keys
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var rejected []error
		if k, rejected, err = parseJWKS(data); err == nil {
			err = errors.Join(rejected...)
		}
	} else {
		k, err = parsePEM(data)
	}
	if err != nil {
		return nil, fmt.Errorf("key-file of jwt: %s: %w", path, err)
	}
	return k, nil
}

// parsePEM reads public keys and certificates; neither has a name that tokens could use.
func parsePEM(data []byte) (*Keys, error) {
	k := new(Keys)
	for len(k.all) < maxCandidates {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		key, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		one := jose.JSONWebKey{Key: key}
		if err := checkKey(&one); err != nil {
			return nil, err
		}
		k.all = append(k.all, one)
		data = rest
	}
	if len(k.all) == 0 {
		return nil, errors.New("it has no PEM block: write public keys in PEM, or a JWKS")
	}
	if rest := bytes.TrimSpace(data); len(rest) > 0 {
		return nil, fmt.Errorf("something follows its %d keys: keep at most %d PEM blocks and no other text behind them", len(k.all), maxCandidates)
	}
	return k, nil
}

func parseBlock(block *pem.Block) (key crypto.PublicKey, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("a PEM block of the type %q: keep only public keys and certificates in the file", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("a PEM block cannot be read: %w; export the public key again", err)
	}
	return key, nil
}

// parseJWKS reads a JSON Web Key Set. Keys that are of no use are left out, each with an
// error: a server may have some for other purposes.
func parseJWKS(data []byte) (k *Keys, rejected []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, fmt.Errorf("it is no JWKS: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("it has %d keys and may have %d: keep those that are in use", len(set.Keys), maxKeys)
	}
	k = new(Keys)
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(raw)
		if err == nil {
			err = checkKey(&key)
		}
		if err != nil {
			rejected = append(rejected, fmt.Errorf("key %d: %w", i, err))
			continue
		}
		k.all = append(k.all, key)
	}
	if len(k.all) == 0 {
		return nil, nil, errors.Join(append(rejected, errors.New("it has no public key that checks signatures: export the public keys again"))...)
	}
	return k, rejected, nil
}

// checkKey returns an error if a key must not check signatures.
func checkKey(key *jose.JSONWebKey) error {
	if key.Use != "" && key.Use != "sig" {
		return fmt.Errorf("it is for %q and not for signatures (sig)", key.Use)
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < leastRSA {
			return fmt.Errorf("an RSA key of %d bits is too short: make one of %d or more", bits, leastRSA)
		}
		return nil
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	default:
		return errors.New("only public keys of RSA, ECDSA and Ed25519 are accepted, no private or secret ones, which could make tokens")
	}
}
