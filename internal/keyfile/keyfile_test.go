package keyfile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file with a content and permissions.
func write(t *testing.T, content []byte, perm fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestForms(t *testing.T) {
	for _, size := range []int{16, 24, 32} {
		want := bytes.Repeat([]byte{0xa7, 0x01, '\n', 0x0d}, size/4)
		for form, content := range map[string][]byte{
			"as it is":            want,
			"hexadecimal":         []byte(hex.EncodeToString(want)),
			"hexadecimal, a line": []byte(strings.ToUpper(hex.EncodeToString(want)) + "\r\n"),
			"base64":              []byte(base64.StdEncoding.EncodeToString(want)),
			"base64, a line":      []byte(base64.StdEncoding.EncodeToString(want) + "\n"),
		} {
			got, err := Read(write(t, content, 0o600))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes: %x, %v", form, size, got, err)
			}
		}
	}
}

func TestNoKeys(t *testing.T) {
	for name, content := range map[string]string{
		"empty":       "",
		"short":       "a7010a0d",
		"a 20th byte": strings.Repeat("\xa7", 20),
		"passphrase":  "correct horse, battery and a pin",
		"long":        strings.Repeat("a7", 1000),
	} {
		_, err := Read(write(t, []byte(content), 0o600))
		if err == nil || !strings.Contains(err.Error(), "openssl rand -hex 32") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(content) > 3 && strings.Contains(err.Error(), content[:4]) {
			t.Errorf("%s: the error contains what is in the file: %v", name, err)
		}
	}
}

func TestOthersMustNotReadAKey(t *testing.T) {
	content := []byte(strings.Repeat("a7", 32))
	for perm, ok := range map[fs.FileMode]bool{
		0o400: true, 0o600: true, 0o440: true, 0o640: true,
		0o644: false, 0o604: false, 0o620: false, 0o602: false, 0o777: false,
	} {
		if _, err := Read(write(t, content, perm)); (err == nil) != ok {
			t.Errorf("%04o: %v", perm, err)
		}
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a folder is no key")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Repeat("a7", 32)))
	f.Add([]byte("p6enp6enp6enp6enp6enpw==\n"))
	f.Add(bytes.Repeat([]byte{0}, 24))
	f.Fuzz(func(t *testing.T, raw []byte) {
		key, err := parse(raw)
		switch {
		case err == nil && !isKey(key):
			t.Errorf("a key of %d bytes", len(key))
		case err != nil && err != errForm:
			t.Errorf("an error that may tell what is in the file: %v", err)
		}
	})
}
