package authfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/auth"
)

// Entry returns the lines of a new identity, for a file that is kept elsewhere.
func Entry(name string, grants []auth.Grant, t Token) (string, error) {
	entry, err := entryNode(name, grants, t)
	if err != nil {
		return "", err
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{entry}}
	root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text("identities"), list}}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err = errors.Join(enc.Encode(root), enc.Close())
	return out.String(), err
}

func entryNode(name string, grants []auth.Grant, t Token) (*yaml.Node, error) {
	if err := auth.CheckName(name); err != nil {
		return nil, errors.New("the name " + strings.TrimSpace(name) + " " + err.Error())
	}
	if len(grants) == 0 {
		return nil, errors.New(name + " is a new name, which has no rights yet: -role read|write|watch|replication|admin gives some")
	}
	tok, err := t.node()
	if err != nil {
		return nil, err
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range grants {
		list.Content = append(list.Content, grantNode(&grants[i]))
	}
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
		text("name"), text(name),
		text("tokens"), {Kind: yaml.SequenceNode, Content: []*yaml.Node{tok}},
		text("grants"), list,
	}}, nil
}

func grantNode(g *auth.Grant) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{text("role"), text(string(g.Role))}}
	var plain, coded []string
	for _, p := range g.Prefixes {
		if utf8.Valid(p) && strings.IndexFunc(string(p), unicode.IsControl) < 0 {
			plain = append(plain, string(p))
		} else {
			coded = append(coded, hex.EncodeToString(p))
		}
	}
	for _, list := range []struct {
		key   string
		texts []string
	}{{"databases", g.Databases}, {"prefixes", plain}, {"prefixes-hex", coded}} {
		if len(list.texts) == 0 {
			continue
		}
		values := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range list.texts {
			v := text(s)
			v.Style = yaml.DoubleQuotedStyle
			values.Content = append(values.Content, v)
		}
		n.Content = append(n.Content, text(list.key), values)
	}
	return n
}

// Describe returns a grant as one cell of a table.
func Describe(g *auth.Grant) string {
	out := string(g.Role)
	if len(g.Databases) > 0 {
		out += " of " + strings.Join(g.Databases, ", ")
	}
	for i, p := range g.Prefixes {
		sep := ", "
		if i == 0 {
			sep = " of keys "
		}
		out += sep + quoted(p)
	}
	return out
}

func quoted(p []byte) string {
	if utf8.Valid(p) {
		return string(p) + "*"
	}
	return "0x" + hex.EncodeToString(p) + "*"
}
