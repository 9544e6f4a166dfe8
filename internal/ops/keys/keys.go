// Package keys serves keys over HTTP, for the console and for scripts: JSON around the service
// that gRPC serves. It is not made for load; clients use gRPC.
package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// The paths, which have rows in the access table.
const (
	GetPath    = "/data/get"
	ListPath   = "/data/list"
	PutPath    = "/data/put"
	CASPath    = "/data/cas"
	DeletePath = "/data/delete"
)

// Paths returns all of them.
func Paths() []string { return []string{GetPath, ListPath, PutPath, CASPath, DeletePath} }

// Bounds of what is served.
const (
	// MaxBody is enough for a value of the default limit, 4 MiB, in base64.
	MaxBody = 6 << 20
	// timeout bounds a call: a person waits for it.
	timeout = 10 * time.Second
)

// Options say what keys are served from.
type Options struct {
	// KV returns the service of keys, or why there is none.
	KV func() (serverpb.DKVServer, error)
	// VBucket names the vBucket of a key.
	VBucket func(key []byte) string
	// Allow decides whether the caller of a context may make a request at a path.
	Allow func(ctx context.Context, path string, request any) error
}

// Service serves keys.
type Service struct{ options Options }

// New returns a Service.
func New(o Options) *Service { return &Service{options: o} }

// Call answers a request, whose body has arrived, with a document, or with an error of package kv.
type Call func(r *http.Request) (any, error)

// Calls are the calls that read and those that write, by path.
func (s *Service) Calls() (reads, writes map[string]Call) {
	return map[string]Call{GetPath: s.limited(s.get), ListPath: s.limited(s.list)},
		map[string]Call{PutPath: s.limited(s.put), CASPath: s.limited(s.cas), DeletePath: s.limited(s.remove)}
}

// limited bounds a call.
func (s *Service) limited(c Call) Call {
	return func(r *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		return c(r.WithContext(ctx))
	}
}

// Pair is a key with what is known of its value. Keys and values are base64.
type Pair struct {
	Key     []byte `json:"key"`
	VBucket string `json:"vbucket"`
	Found   bool   `json:"found"`
	Value   []byte `json:"value,omitempty"`
	// Size is that of the value; Expires is in epoch seconds, 0 for never.
	Size    int    `json:"size"`
	Expires uint64 `json:"expires"`
	// Index is the log index that the answer reflects, AgeMillis for how long it may have been
	// out of date.
	Index     uint64 `json:"index,omitempty"`
	AgeMillis uint64 `json:"age_millis"`
}

func (s *Service) get(r *http.Request) (any, error) {
	query := r.URL.Query()
	key, err := decode(query.Get("encoding"), "key", query.Get("key"))
	if err != nil {
		return nil, err
	}
	level, err := levelOf(query.Get("level"))
	if err != nil {
		return nil, err
	}
	service, err := s.options.KV()
	if err != nil {
		return nil, err
	}
	request := &serverpb.GetRequest{Key: key, ReadConsistency: level}
	if err := s.options.Allow(r.Context(), GetPath, request); err != nil {
		return nil, err
	}
	answer, err := service.Get(r.Context(), request)
	if err != nil {
		return nil, err
	}
	return &Pair{
		Key: key, VBucket: s.options.VBucket(key), Found: answer.GetFound(), Value: answer.GetValue(), Size: len(answer.GetValue()),
		Expires: answer.GetExpireTS(), Index: answer.GetIndex(), AgeMillis: answer.GetAge(),
	}, nil
}

// levelOf reads a read level; linearizable is the default.
func levelOf(name string) (serverpb.ReadConsistency, error) {
	switch name {
	case "", "linearizable":
		return serverpb.ReadConsistency_LINEARIZABLE, nil
	case "sequential":
		return serverpb.ReadConsistency_SEQUENTIAL, nil
	}
	return 0, kv.Errorf(kv.Invalid, "level is linearizable or sequential, not %.40q", name)
}

// decode reads bytes that are written as text, hex or base64; "" is text.
func decode(encoding, name, text string) (out []byte, err error) {
	switch encoding {
	case "", "text":
		return []byte(text), nil
	case "hex":
		out, err = hex.DecodeString(strings.Join(strings.Fields(text), ""))
	case "base64":
		out, err = base64.StdEncoding.DecodeString(text)
	default:
		return nil, kv.Errorf(kv.Invalid, "encoding is text, hex or base64, not %.40q", encoding)
	}
	if err != nil {
		return nil, kv.Errorf(kv.Invalid, "%s is not %s: %w", name, encoding, err)
	}
	return out, nil
}

// number reads a number of a query; absent is the default.
func number(text, name string, absent, most int) (int, error) {
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, kv.Errorf(kv.Invalid, "%s is a number from 1 to %d, not %.20q", name, most, text)
	}
	return n, nil
}

// readBody reads the body of a write.
func readBody(r *http.Request, into *change) error {
	body, err := io.ReadAll(r.Body) // which has arrived, and is of bounded size
	if err != nil {
		return kv.Errorf(kv.Invalid, "the body could not be read: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields() // a misspelled "expires" would make a key that never does
	err = decoder.Decode(into)
	switch {
	case err == nil && decoder.More():
		err = errors.New("more than one document")
	case err == nil && altered(body, into.Key, into.Value, into.Old):
		err = errors.New(`it has bytes that are not UTF-8, or half of a surrogate pair, for which U+FFFD would be stored: write such a key or value with "encoding": "base64" or "hex"`)
	}
	if err != nil {
		return kv.Errorf(kv.Invalid, `the body must be {"key": "K", "value": "V"} with, if wanted, "old", "encoding", "expires" (epoch seconds) and "ack": %w`, err)
	}
	return nil
}

// altered reports whether texts of a document have a U+FFFD that it does not have itself: decoding
// puts it in place of what is no Unicode.
func altered(document []byte, texts ...string) bool {
	got := 0
	for _, text := range texts {
		got += strings.Count(text, "\ufffd")
	}
	return got > 0 && got > bytes.Count(document, []byte("\ufffd"))+bytes.Count(bytes.ToLower(document), []byte(`\ufffd`))
}

// outcome adds to the error of a write what has become of it.
func outcome(err error) error {
	var known *kv.Error
	if errors.As(err, &known) && known.Outcome == kv.Unknown {
		return fmt.Errorf("%w (outcome unknown: it may have been applied)", err)
	}
	return err
}
