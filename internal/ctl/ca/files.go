package ca

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/files"
)

// The modes of the files: certificates are public.
const (
	folderMode = 0o700
	keyMode    = 0o600
	certMode   = 0o644
)

// largest bounds a file with certificates, in bytes.
const largest = 1 << 20

// makeFolder makes the folder of an authority, or checks one that exists.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, folderMode)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the folder of the authority: %w", err)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("other users may write to %s, and so replace the authority: chmod 700 %[1]s", dir)
	}
	return nil
}

// keyIsPrivate rejects a key that other users may read.
func keyIsPrivate(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("other users may read the authority's key %s: chmod 600 %[1]s, and if they may have done so, change the authority", file)
	}
	return nil
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // to memory
	}
	return out.Bytes()
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func writeKey(file string, key crypto.Signer) error {
	raw, err := encodeKey(key)
	if err != nil {
		return err
	}
	return files.WriteNew(file, raw, keyMode)
}

// readFile reads a file of bounded size.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err == nil && len(raw) > largest {
		err = fmt.Errorf("%s is larger than %d bytes: it is no file of certificates", file, largest)
	}
	return raw, err
}

// ReadCertificates reads the certificates of a PEM file, of which there is one at least.
func ReadCertificates(file string) ([]*x509.Certificate, error) {
	raw, err := readFile(file)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return certs, nil
}

func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	others := make(map[string]bool)
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			others[block.Type] = true
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it cannot be read: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) > 0 {
		return certs, nil
	}
	for other := range others {
		return nil, fmt.Errorf("it holds no PEM certificate but a %s", other)
	}
	return nil, errors.New("it holds no PEM certificate" + binaryHint(raw, "x509"))
}

// binaryHint says how to convert a file that is in DER.
func binaryHint(raw []byte, command string) string {
	if len(raw) > 1 && raw[0] == 0x30 && raw[1] >= 0x80 {
		return ": it seems to be in DER; convert it with openssl " + command + " -inform der"
	}
	return ""
}

// ReadKey reads the private key of a PEM file: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC).
func ReadKey(file string) (crypto.Signer, error) {
	raw, err := readFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func parseKey(raw []byte) (crypto.Signer, error) {
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("it holds no PEM private key" + binaryHint(raw, "pkey"))
		}
		switch {
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"): // EC PARAMETERS, or a certificate
			continue
		case strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "":
			return nil, errors.New("its private key is encrypted, which nodes cannot read: write it without a passphrase (openssl pkey -in FILE), for its owner alone (mode 600)")
		}
		return parseKeyBlock(block)
	}
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a %s is not supported: convert it with openssl pkey", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("its private key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("its private key, a %T, cannot sign", key)
	}
	return signer, nil
}

// LoadPair reads a certificate, with what it needs of its chain, and its key.
func LoadPair(certFile, keyFile string) (tls.Certificate, error) {
	certs, err := ReadCertificates(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ReadKey(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !belongs(key, certs[0]) {
		return tls.Certificate{}, fmt.Errorf("the key in %s is not that of the certificate in %s", keyFile, certFile)
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}
