package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
)

// records are one of each kind.
func records() map[string]record {
	founder := memberOf()
	founder.URL, founder.Replica, founder.Founder = urlA, 1, true
	founder.Members[0].UUID, founder.Members[0].State = founder.UUID, accepted
	founder.Members[1].UUID, founder.Members[1].State = "00000000-0000-4000-8000-000000000001", invited
	founder.Members[2].State = removed
	joined := memberOf()
	joined.Join, joined.NonVoting, joined.Members, joined.Deployment = true, true, nil, 1<<64-1
	started := memberOf()
	started.Starts, started.StartIDs = 1000, []uint64{1, 1<<64 - 1}
	started.LogFormat = 2
	retired := started
	retired.Retired = "it is an older copy"
	return map[string]record{
		"started": started, "retired": retired,
		"waiting": {UUID: founder.UUID, URL: urlA}, "member": memberOf(), "founder": founder, "joined": joined,
	}
}

func TestFileRoundTrip(t *testing.T) {
	for name, rec := range records() {
		f := file{t.TempDir(), durable.WriteFile}
		if _, ok, err := f.load(); ok || err != nil {
			t.Fatalf("an empty folder has a record: %v, %v", ok, err)
		}
		if err := f.store(rec); err != nil {
			t.Fatal(err)
		}
		got, ok, err := f.load()
		if err != nil || !ok {
			t.Fatalf("%s: %v, %v", name, ok, err)
		}
		rec.Format, rec.Checksum = rec.format(), got.Checksum
		if !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: stored %+v, read %+v", name, rec, got)
		}
	}
}

// TestFormatIsStable holds the present format against files of releases.
func TestFormatIsStable(t *testing.T) {
	const first = `{
  "format": 1,
  "uuid": "12345678-9abc-4def-8123-456789abcdef",
  "url": "http://127.0.0.1:9022",
  "clusterName": "c1",
  "database": "db",
  "vBuckets": 4,
  "deployment": 77,
  "replica": 2,
  "members": [
    {
      "replica": 1,
      "url": "http://127.0.0.1:9021"
    },
    {
      "replica": 2,
      "url": "http://127.0.0.1:9022"
    },
    {
      "replica": 3,
      "url": "http://127.0.0.1:9023"
    }
  ],
  "started": true,
  "checksum": "e6047b50"
}
`
	content, err := encode(memberOf())
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != first {
		t.Errorf("the file is\n%s", content)
	}
	const second = `  "started": true,
  "starts": 3,
  "startIds": [
    7,
    8,
    9
  ],
  "checksum": "3536d689"
}
`
	rec := memberOf()
	rec.Starts, rec.StartIDs = 3, []uint64{7, 8, 9}
	if content, err = encode(rec); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Split(first, `  "started"`)[0], `"format": 1`, `"format": 2`, 1) + second
	if string(content) != want {
		t.Errorf("with starts, the file is\n%s", content)
	}
}

// TestDamagedFile cuts the file anywhere and flips any bit of it.
func TestDamagedFile(t *testing.T) {
	for name, rec := range records() {
		whole, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		good, err := decode(whole)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check := func(what string, at int, content []byte) {
			got, err := decode(content)
			// White space and the case of field names carry nothing.
			if err == nil && !reflect.DeepEqual(got, good) {
				t.Errorf("%s, %s %d: read as %+v", name, what, at, got)
			}
			if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMismatch) {
				t.Errorf("%s, %s %d: %v", name, what, at, err)
			}
		}
		for n := range len(whole) - 2 {
			if _, err := decode(whole[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
		}
		for n := range whole {
			for bit := range 8 {
				flipped := bytes.Clone(whole)
				flipped[n] ^= 1 << bit
				check("flipped at", n*8+bit, flipped)
			}
		}
	}
}

// TestImpossibleRecords have a right checksum.
func TestImpossibleRecords(t *testing.T) {
	for name, bend := range map[string]func(*record){
		"uuid":                func(r *record) { r.UUID = "x" },
		"uuid in capitals":    func(r *record) { r.UUID = strings.ToUpper(r.UUID) },
		"url":                 func(r *record) { r.URL = "127.0.0.1:9022" },
		"no deployment":       func(r *record) { r.Deployment = 0 },
		"no vbuckets":         func(r *record) { r.VBuckets = 0 },
		"no replica":          func(r *record) { r.Replica = 0 },
		"not among members":   func(r *record) { r.Replica = 4 },
		"another member":      func(r *record) { r.Replica = 3 },
		"no members":          func(r *record) { r.Members = nil },
		"member twice":        func(r *record) { r.Members[2] = r.Members[0]; r.Members[2].Replica = 3 },
		"members in no order": func(r *record) { r.Members[0], r.Members[1] = r.Members[1], r.Members[0] },
		"member's url":        func(r *record) { r.Members[0].URL = "x" },
		"member 0":            func(r *record) { r.Members[0].Replica = 0 },
		"member's state":      func(r *record) { r.Members[0].State = "odd" },
		"invited no disk":     func(r *record) { r.Members[0].State = invited },
		"joined with list":    func(r *record) { r.Join = true },
		"founder that joined": func(r *record) { r.Join, r.Founder, r.Members = true, true, nil },
		"starts without ids":  func(r *record) { r.Starts = 1 },
		"more ids":            func(r *record) { r.Starts, r.StartIDs = 1, []uint64{1, 2} },
		"starts, no member":   func(r *record) { *r = record{UUID: r.UUID, URL: r.URL, Starts: 1, StartIDs: []uint64{1}} },
		"started, no member":  func(r *record) { *r = record{UUID: r.UUID, URL: r.URL, Started: true} },
	} {
		rec := memberOf()
		bend(&rec)
		content, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(content); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	_, err := decode([]byte(`{"format": 4, "novel": {"field": 1}, "uuid": 7}`))
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "run the version that wrote it") {
		t.Errorf("%v", err)
	}
}

// Notes of a later release are not read as damaged ones.
func TestNotesOfALaterRelease(t *testing.T) {
	f := file{dir: t.TempDir()}
	if err := os.WriteFile(f.notesPath(), []byte(`{"format": 2, "novel": 7, "checksum": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.loadNotes(); !errors.Is(err, ErrMismatch) || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

func TestEditedFile(t *testing.T) {
	content, err := encode(memberOf())
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range [][2]string{{`"replica": 2,`, `"replica": 3,`}, {"c1", "c2"}, {`"started": true`, `"started": false`}, {`"started"`, `"stared"`}} {
		edited := strings.Replace(string(content), edit[0], edit[1], 1)
		if edited == string(content) {
			t.Fatalf("nothing to replace: %s", edit[0])
		}
		if _, err := decode([]byte(edited)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s for %s: %v", edit[1], edit[0], err)
		}
	}
	trailing := append(bytes.Clone(content), content...)
	if _, err := decode(trailing); !errors.Is(err, ErrCorrupt) {
		t.Errorf("two files in one: %v", err)
	}
}

func TestUnwritableFolder(t *testing.T) {
	at := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := file{filepath.Join(at, "below"), durable.WriteFile}
	if err := f.store(memberOf()); err == nil || !strings.Contains(err.Error(), "identity file") {
		t.Errorf("stored: %v", err)
	}
	if _, _, err := f.load(); err == nil {
		t.Error("read")
	}
}

func FuzzDecode(f *testing.F) {
	for _, rec := range records() {
		content, err := encode(rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(`{"format":3}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		rec, err := decode(content)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMismatch) {
				t.Fatal(err)
			}
			return
		}
		again, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		second, err := decode(again)
		if err != nil || !reflect.DeepEqual(rec, second) {
			t.Fatalf("%+v, then %+v, %v", rec, second, err)
		}
		if !json.Valid(again) {
			t.Fatal("no JSON")
		}
	})
}
