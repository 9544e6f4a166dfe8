package output

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"
)

func FuzzJSONBytes(f *testing.F) {
	for _, s := range []string{"", "plain", "quote\" and \\", "\x00\x1f\x7f\n\r\t", "grüße \u2028", "\xff\xfe", "\xed\xa0\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		p := &Printer{W: w, JSON: true}
		if err := errors.Join(p.Pair(value, value, 7), w.Flush()); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
			t.Fatalf("%q takes %d lines", value, n)
		}
		var got struct {
			Key         *string
			KeyBase64   *string `json:"key_base64"`
			ValueBase64 *string `json:"value_base64"`
			ExpireTS    uint64  `json:"expire_ts"`
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%q is no JSON: %v", out.String(), err)
		}
		if got.ExpireTS != 7 || (got.Key != nil) != utf8.Valid(value) || (got.KeyBase64 != nil) == utf8.Valid(value) {
			t.Fatalf("%q is told as %s", value, out.String())
		}
		if got.Key != nil && *got.Key != string(value) {
			t.Fatalf("%q comes back as %q", value, *got.Key)
		}
		if got.ValueBase64 != nil {
			if back, err := base64.StdEncoding.DecodeString(*got.ValueBase64); err != nil || !bytes.Equal(back, value) {
				t.Fatalf("%q comes back as %q, %v", value, back, err)
			}
		}
	})
}

func BenchmarkPrintPair(b *testing.B) {
	for _, format := range []string{"text", "json"} {
		b.Run(format, func(b *testing.B) {
			p := &Printer{W: bufio.NewWriter(discard{}), JSON: format == "json"}
			key, value := []byte("key000000000042"), bytes.Repeat([]byte("v"), 128)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Pair(key, value, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
