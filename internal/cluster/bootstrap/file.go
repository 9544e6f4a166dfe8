package bootstrap

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/crc"
	"github.com/dkvdb/dkv/internal/durable"
)

const (
	// fileName is the identity file's name in its folder.
	fileName = "raft.json"
	// fileFormat is the newest format. Format 1 has neither starts nor a log's format,
	// and format 2 does not say that the node was removed.
	fileFormat = 3
	// maxFile bounds what is read: far more than the largest list of members.
	maxFile = 4 << 20
)

// record is the content of the identity file. While Replica is 0 the node belongs to no
// cluster, and only UUID and URL are set.
type record struct {
	Format      int            `json:"format"`
	UUID        string         `json:"uuid"`
	URL         string         `json:"url"`
	ClusterName string         `json:"clusterName,omitempty"`
	Database    string         `json:"database,omitempty"`
	VBuckets    int            `json:"vBuckets,omitempty"`
	Deployment  uint64         `json:"deployment,omitempty"`
	Replica     uint64         `json:"replica,omitempty"`
	Members     []memberRecord `json:"members,omitempty"`
	Join        bool           `json:"join,omitempty"`
	NonVoting   bool           `json:"nonVoting,omitempty"`
	Founder     bool           `json:"founder,omitempty"`
	// Started is set before Raft runs for the first time.
	Started bool `json:"started,omitempty"`
	// Starts and StartIDs are the starts under this identity; see Past.
	Starts   uint64   `json:"starts,omitempty"`
	StartIDs []uint64 `json:"startIds,omitempty"`
	// LogFormat is the format of the log that all members understood when this node
	// became one.
	LogFormat uint32 `json:"logFormat,omitempty"`
	// Retired is why the disk must never be used again.
	Retired string `json:"retired,omitempty"`
	// Removed is when the node noticed that its cluster had removed it.
	Removed time.Time `json:"removed,omitzero"`
	// Checksum is the CRC-32C of the file with this field empty, in hex.
	Checksum string `json:"checksum"`
}

// memberRecord is a first member. Only the founder sets UUID and State.
type memberRecord struct {
	Replica uint64      `json:"replica"`
	URL     string      `json:"url"`
	UUID    string      `json:"uuid,omitempty"`
	State   inviteState `json:"state,omitempty"`
}

// inviteState is the state of a first member's invitation.
type inviteState string

const (
	// invited is written before the invitation is sent: from then on no other
	// uuid may become this replica.
	invited inviteState = "invited"
	// accepted means that the member has its identity on disk.
	accepted inviteState = "accepted"
	// removed means that it was removed before it ever accepted.
	removed inviteState = "removed"
)

func (r *record) isMember() bool { return r.Replica != 0 }

// format returns the lowest format that has everything in the record, so that an earlier
// release can read it if possible.
func (r *record) format() int {
	if !r.Removed.IsZero() {
		return 3
	}
	if r.Starts != 0 || len(r.StartIDs) != 0 || r.Retired != "" || r.LogFormat != 0 {
		return 2
	}
	return 1
}

func (r *record) clone() record {
	c := *r
	c.Members = slices.Clone(r.Members)
	return c
}

// member returns the first member with a replica number, or nil.
func (r *record) member(replica uint64) *memberRecord {
	i := slices.IndexFunc(r.Members, func(m memberRecord) bool { return m.Replica == replica })
	if i < 0 {
		return nil
	}
	return &r.Members[i]
}

// urls returns the URLs of the first members, in order.
func (r *record) urls() []string {
	out := make([]string, 0, len(r.Members))
	for _, m := range r.Members {
		out = append(out, m.URL)
	}
	slices.Sort(out)
	return out
}

// file is where a record is kept.
type file struct {
	dir string
	// write replaces a file durably; durable.WriteFile, or a test's fault.
	write func(path string, content []byte) error
}

func (f file) path() string { return filepath.Join(f.dir, fileName) }

// load reads the record; ok is false if there is none.
func (f file) load() (rec record, ok bool, err error) {
	in, err := os.Open(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("identity file: %w", err)
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return record{}, false, fmt.Errorf("identity file: %w", err)
	}
	rec, err = decode(content)
	if err != nil {
		return record{}, false, fmt.Errorf("%s: %w", f.path(), err)
	}
	return rec, true, nil
}

// store writes the record; it is durable when store returns nil.
func (f file) store(rec record) error {
	content, err := encode(rec)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(f.dir); err != nil {
		return fmt.Errorf("identity file: %w", err)
	}
	if err := f.write(f.path(), content); err != nil {
		return fmt.Errorf("identity file: %w", err)
	}
	return nil
}

// encode returns the file of a record. Equal records are equal files.
func encode(rec record) ([]byte, error) {
	rec.Format = rec.format()
	sum, err := rec.checksum()
	if err != nil {
		return nil, err
	}
	rec.Checksum = sum
	return rec.json()
}

func (r *record) json() ([]byte, error) {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("identity file: %w", err)
	}
	return append(content, '\n'), nil
}

func (r *record) checksum() (string, error) {
	c := *r
	c.Checksum = ""
	content, err := c.json()
	if err != nil {
		return "", err
	}
	return checksum(content), nil
}

// checksum is a file's CRC-32C in hex.
func checksum(content []byte) string {
	return fmt.Sprintf("%08x", crc.Sum(content))
}

// restoreIt ends the errors about a file that cannot be used.
const restoreIt = "put back this disk's own file; if it is lost, move the node's data folder away, " +
	"remove the node from its cluster (dkvctl -removeNode URL), start it with --nexus-join and add it again (dkvctl -addNode URL)"

// decode reads a file. Errors wrap ErrCorrupt, or ErrMismatch if a newer version wrote
// it.
func decode(content []byte) (record, error) {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return record{}, fmt.Errorf("%w: it is not JSON (%v): %s", ErrCorrupt, err, restoreIt)
	}
	if head.Format > fileFormat {
		return record{}, fmt.Errorf("%w: the file has format %d, and this version knows %d: run the version that wrote it, or a newer one",
			ErrMismatch, head.Format, fileFormat)
	}
	var rec record
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&rec); err != nil {
		return record{}, fmt.Errorf("%w: %v: %s", ErrCorrupt, err, restoreIt)
	}
	sum, err := rec.checksum()
	if err != nil {
		return record{}, err
	}
	if rec.Checksum != sum {
		return record{}, fmt.Errorf("%w: the checksum is %q, but that of its content is %s; it must not be edited: %s", ErrCorrupt, rec.Checksum, sum, restoreIt)
	}
	if err := rec.validate(); err != nil {
		return record{}, fmt.Errorf("%w: %v: %s", ErrCorrupt, err, restoreIt)
	}
	return rec, nil
}

// validate returns an error for a record that cannot be.
func (r *record) validate() error {
	if u, err := canonicalURL(r.URL); err != nil || u != r.URL {
		return fmt.Errorf("url %q is not in canonical form", r.URL)
	}
	if r.Format != r.format() || !validUUID(r.UUID) {
		return fmt.Errorf("format %d or uuid %q is wrong", r.Format, r.UUID)
	}
	past := Past{UUID: r.UUID, Number: r.Starts, IDs: r.StartIDs}
	if err := past.check(); err != nil {
		return err
	}
	if !r.isMember() {
		if r.Deployment != 0 || len(r.Members) != 0 || r.Join || r.NonVoting || r.Founder || r.Started || r.Starts != 0 || r.Retired != "" || r.LogFormat != 0 || !r.Removed.IsZero() {
			return errors.New("there is no replica number, but a membership")
		}
		return nil
	}
	if r.Deployment == 0 || r.VBuckets <= 0 {
		return fmt.Errorf("deployment %d or vBuckets %d is wrong", r.Deployment, r.VBuckets)
	}
	if r.Join {
		if len(r.Members) != 0 || r.Founder {
			return errors.New("a node that joined has a list of first members")
		}
		return nil
	}
	return r.validateMembers()
}

func (r *record) validateMembers() error {
	seen := make(map[string]bool)
	for i, m := range r.Members {
		if u, err := canonicalURL(m.URL); err != nil || u != m.URL || seen[u] || m.Replica == 0 {
			return fmt.Errorf("member %d at %q is wrong or listed twice", m.Replica, m.URL)
		}
		seen[m.URL] = true
		if i > 0 && r.Members[i-1].Replica >= m.Replica {
			return errors.New("the members are not in order")
		}
		switch m.State {
		case invited, accepted:
			if !validUUID(m.UUID) {
				return fmt.Errorf("member %d is %s as %q", m.Replica, m.State, m.UUID)
			}
		case "", removed:
		default:
			return fmt.Errorf("member %d is in state %q", m.Replica, m.State)
		}
	}
	if m := r.member(r.Replica); m == nil || m.URL != r.URL {
		return fmt.Errorf("replica %d at %s is not among the members", r.Replica, r.URL)
	}
	return nil
}

// validUUID reports whether text is 32 hex digits in the usual groups.
func validUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, r := range []byte(text) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (r == '-') {
			return false
		} else if !dash && !strings.ContainsRune("0123456789abcdef", rune(r)) {
			return false
		}
	}
	return true
}

// memberRecords turns a map of members into records in order.
func memberRecords(members map[uint64]string) []memberRecord {
	var out []memberRecord
	for replica, u := range members {
		out = append(out, memberRecord{Replica: replica, URL: u})
	}
	slices.SortFunc(out, func(a, b memberRecord) int { return cmp.Compare(a.Replica, b.Replica) })
	return out
}
