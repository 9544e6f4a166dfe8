// Package authfile changes the file of identities (auth-file): it adds tokens and revokes
// them. What else is in the file stays, comments included; only its layout may change.
package authfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/ctl/files"
)

// maxTokens is how many tokens a name may have: the one in use and the one that replaces it.
const maxTokens = 2

// newMode is the mode of a file that did not exist: hashes are no secrets, but names are of
// no interest to other users.
const newMode = 0o600

const heading = "# Who may do what: the auth-file of every node. Tokens are kept as hashes."

// File is an auth-file. It holds the lock of its folder until Close.
type File struct {
	name string
	mode fs.FileMode
	lock *os.File
	// identities is the list in document, and policy what the file means.
	document, identities *yaml.Node
	policy               *policy.Policy
}

// Open reads a file, or begins one that does not exist if create is set.
func Open(name string, create bool) (*File, error) {
	file, err := files.Target(name)
	if err != nil {
		return nil, err
	}
	lock, err := files.Lock(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	f := &File{name: name, mode: newMode, lock: lock}
	switch err := f.read(); {
	case errors.Is(err, fs.ErrNotExist) && create:
		f.begin()
	case err != nil:
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close ends the use of the file.
func (f *File) Close() { _ = f.lock.Close() } // opened for its lock alone

func (f *File) read() error {
	info, err := os.Stat(f.name)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(f.name)
	if err != nil {
		return err
	}
	if f.policy, err = policy.Parse(f.name, raw); err != nil {
		return err
	}
	f.mode, f.document = info.Mode().Perm(), new(yaml.Node)
	if err := yaml.Unmarshal(raw, f.document); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	root := f.document.Content[0]
	if f.identities = value(root, "identities"); f.identities == nil {
		f.identities = &yaml.Node{Kind: yaml.SequenceNode}
		root.Content = append(root.Content, text("identities"), f.identities)
	}
	return nil
}

func (f *File) begin() {
	f.policy = new(policy.Policy)
	f.identities = &yaml.Node{Kind: yaml.SequenceNode}
	root := &yaml.Node{Kind: yaml.MappingNode, HeadComment: heading, Content: []*yaml.Node{text("identities"), f.identities}}
	f.document = &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}
}

// Save replaces the file, unless its new content would be rejected by nodes.
func (f *File) Save() error {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(f.document), enc.Close()); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if _, err := policy.Parse(f.name, out.Bytes()); err != nil {
		return fmt.Errorf("the file is left as it was, since with this change nodes would reject it: %w", err)
	}
	return files.Replace(files.Replacement{File: f.name, Content: out.Bytes(), Mode: f.mode})
}

// Add gives a name a further token. A name that is not in the file yet gets the grants; one
// that is keeps its own. Tokens that have ended make room for new ones.
func (f *File) Add(name string, grants []auth.Grant, t Token) error {
	i := slices.IndexFunc(f.policy.Identities, func(id policy.Identity) bool { return id.Name == name })
	if i < 0 {
		entry, err := entryNode(name, grants, t)
		if err == nil {
			f.identities.Style &^= yaml.FlowStyle
			f.identities.Content = append(f.identities.Content, entry)
		}
		return err
	}
	if len(grants) > 0 {
		return fmt.Errorf("%s is in %s already and keeps its grants: leave out -role, -database and -prefix, and change the grants in the file", name, f.name)
	}
	f.remove(i, func(t policy.Token) bool { return ended(t) })
	if left := f.policy.Identities[i].Tokens; len(left) >= maxTokens {
		return fmt.Errorf("%s has two tokens already, %s and %s: remove the one that is not in use any more with dkvctl -token revoke ID -authFile %s",
			name, left[0].ID, left[1].ID, f.name)
	}
	node, err := t.node()
	if err != nil {
		return err
	}
	entry := f.identities.Content[i]
	tokens := value(entry, "tokens")
	if tokens == nil {
		tokens = &yaml.Node{Kind: yaml.SequenceNode}
		entry.Content = slices.Insert(entry.Content, 2, text("tokens"), tokens)
	}
	tokens.Style &^= yaml.FlowStyle
	tokens.Content = append(tokens.Content, node)
	return nil
}

func ended(t policy.Token) bool { return !t.NotAfter.IsZero() && time.Now().After(t.NotAfter) }

// Revoke removes the token with an id, or all tokens of a name, and returns their ids.
func (f *File) Revoke(which string) (ids []string, err error) {
	named := false
	for i, id := range f.policy.Identities {
		named = named || id.Name == which
		ids = append(ids, f.remove(i, func(t policy.Token) bool { return t.ID == which || id.Name == which })...)
	}
	switch {
	case len(ids) > 0:
		return ids, nil
	case named:
		return nil, fmt.Errorf("%s has no tokens in %s", which, f.name)
	}
	return nil, fmt.Errorf("%s has neither a token nor a name %q: dkvctl -token list -authFile %[1]s shows both", f.name, which)
}

// remove removes the tokens of identity i that match, and returns their ids.
func (f *File) remove(i int, match func(policy.Token) bool) (ids []string) {
	id := &f.policy.Identities[i]
	tokens := value(f.identities.Content[i], "tokens")
	for k := len(id.Tokens) - 1; k >= 0; k-- {
		if !match(id.Tokens[k]) {
			continue
		}
		ids = append(ids, id.Tokens[k].ID)
		id.Tokens = slices.Delete(id.Tokens, k, k+1)
		tokens.Content = slices.Delete(tokens.Content, k, k+1)
	}
	slices.Reverse(ids)
	return ids
}

// Identities returns what the file says.
func (f *File) Identities() []policy.Identity { return f.policy.Identities }

// Token is a token to add.
type Token struct {
	// Text is the token itself, which the file does not hold.
	Text string
	// NotAfter is when it ends; zero is never.
	NotAfter time.Time
}

// node returns the token as the file holds it.
func (t Token) node() (*yaml.Node, error) {
	hash, err := token.Hash(t.Text)
	if err != nil || t.NotAfter.IsZero() {
		return text(hash), err
	}
	until := text(t.NotAfter.UTC().Format(time.RFC3339))
	until.Style = yaml.DoubleQuotedStyle
	return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{text("hash"), text(hash), text("not-after"), until}}, nil
}

// text returns the node of a text.
func text(s string) *yaml.Node {
	n := new(yaml.Node)
	n.SetString(s)
	return n
}

// value returns the value of a key; nil if it is missing.
func value(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
