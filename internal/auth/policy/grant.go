package policy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/auth"
)

// grantForm is a grant as it is written, in the file or in a JWT.
type grantForm struct {
	Role      string `json:"role"`
	Databases narrow `json:"databases"`
	// Prefixes are text; bytes that are not are written in one of the other two.
	Prefixes       narrow `json:"prefixes"`
	PrefixesHex    narrow `json:"prefixes-hex"`
	PrefixesBase64 narrow `json:"prefixes-base64"`
}

// narrow is a list that narrows a grant.
type narrow []string

// UnmarshalJSON implements json.Unmarshaler. An empty list or null could mean none, and would
// be read as all.
func (n *narrow) UnmarshalJSON(data []byte) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return err
	}
	if len(texts) == 0 {
		return errors.New("an empty list or null could mean none or all: name what the grant is for, or leave the key out")
	}
	*n = texts
	return nil
}

// grants reads the grants of an identity.
func (r *reader) grants(node *yaml.Node) (all []auth.Grant, err error) {
	err = r.list("grants", node, func(e *yaml.Node) error {
		var form grantForm
		err := r.fields("a grant", e, fields{
			"role":            r.into("role", &form.Role),
			"databases":       r.narrow("databases", &form.Databases),
			"prefixes":        r.narrow("prefixes", &form.Prefixes),
			"prefixes-hex":    r.narrow("prefixes-hex", &form.PrefixesHex),
			"prefixes-base64": r.narrow("prefixes-base64", &form.PrefixesBase64),
		})
		if err != nil {
			return err
		}
		grant, err := form.grant()
		if err != nil {
			return r.wrong(e, "a grant %v", err)
		}
		all = append(all, grant)
		return nil
	})
	return all, err
}

// narrow returns a function that stores a list which narrows a grant. An empty list could
// be meant as none, and would be read as all.
func (r *reader) narrow(key string, to *narrow) func(*yaml.Node) error {
	read := r.texts(key, (*[]string)(to))
	return func(node *yaml.Node) error {
		if err := read(node); err != nil {
			return err
		}
		if len(*to) == 0 {
			return r.wrong(node, "%s is an empty list: name what the grant is for, or remove the key to grant all", key)
		}
		return nil
	}
}

// grant checks the form.
func (f *grantForm) grant() (auth.Grant, error) {
	g := auth.Grant{Role: auth.Role(f.Role), Databases: f.Databases}
	for _, text := range f.Prefixes {
		g.Prefixes = append(g.Prefixes, []byte(text))
	}
	for _, text := range f.PrefixesHex {
		p, err := hex.DecodeString(text)
		if err != nil {
			return g, fmt.Errorf("has the prefix %q, which is not hexadecimal: write two digits for each byte", text)
		}
		g.Prefixes = append(g.Prefixes, p)
	}
	for _, text := range f.PrefixesBase64 {
		p, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return g, fmt.Errorf("has the prefix %q, which is not base64: write it as base64 prints it", text)
		}
		g.Prefixes = append(g.Prefixes, p)
	}
	return g, g.Check()
}

// ParseGrants reads grants in the form of the file, as JSON: the claim of a JWT. Its errors
// are for the log.
func ParseGrants(data []byte) ([]auth.Grant, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var forms []grantForm
	if err := decoder.Decode(&forms); err != nil {
		return nil, fmt.Errorf("the grants are not a list in the form of the file: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the grants are followed by something else: one list is expected")
	}
	grants := make([]auth.Grant, len(forms))
	for i := range forms {
		var err error
		if grants[i], err = forms[i].grant(); err != nil {
			return nil, fmt.Errorf("grant %d %w", i, err)
		}
	}
	return grants, nil
}
