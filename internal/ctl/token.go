package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/policy"
	"github.com/dkvdb/dkv/internal/auth/token"
	"github.com/dkvdb/dkv/internal/ctl/authfile"
	"github.com/dkvdb/dkv/internal/ctl/files"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// tokenMode is the mode of a file that holds a token.
const tokenMode = 0o600

// runToken runs an action of -token. Its errors do not repeat what was typed in place of an
// action: it may be a token.
func runToken(_ context.Context, s *session, args []string) error {
	action, names := strings.ToLower(args[0]), args[1:]
	switch {
	case action == "new" && len(names) == 1:
		return s.tokenNew(names[0])
	case action == "revoke" && len(names) == 1:
		return s.tokenRevoke(names[0])
	case action == "list" && len(names) == 0:
		return s.tokenList()
	case action == "new" || action == "revoke" || action == "list":
		return options.Usagef("write -token new NAME, -token revoke NAME|ID or -token list: dkvctl help token explains them")
	}
	return options.ErrSecretTyped
}

// tokenNew makes a token. It is shown or written once: only its hash is kept.
func (s *session) tokenNew(name string) error {
	grants, err := s.grants()
	if err != nil {
		return err
	}
	t := authfile.Token{Text: token.New()}
	if s.Days > 0 {
		t.NotAfter = time.Now().UTC().AddDate(0, 0, s.Days).Truncate(time.Second)
	}
	if s.AuthFile == "" {
		return s.tokenWithEntry(name, grants, t)
	}
	f, err := authfile.Open(s.AuthFile, true)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Add(name, grants, t); err != nil {
		return err
	}
	if err := s.writeToken(t); err != nil {
		return err
	}
	if err := f.Save(); err != nil {
		return errors.Join(err, s.removeToken())
	}
	return s.printToken(name, t, "")
}

// tokenWithEntry prints a token with the lines for an auth-file that is kept elsewhere.
func (s *session) tokenWithEntry(name string, grants []auth.Grant, t authfile.Token) error {
	entry, err := authfile.Entry(name, grants, t)
	if err != nil {
		return err
	}
	if err := s.writeToken(t); err != nil {
		return err
	}
	return s.printToken(name, t, entry)
}

func (s *session) writeToken(t authfile.Token) error {
	if s.TokenFile == "" {
		return nil
	}
	return files.WriteNew(s.TokenFile, []byte(t.Text+"\n"), tokenMode)
}

func (s *session) removeToken() error {
	if s.TokenFile == "" {
		return nil
	}
	return os.Remove(s.TokenFile)
}

// printToken prints the token, unless a file has it, and what else is to be known.
func (s *session) printToken(name string, t authfile.Token, entry string) error {
	id, _ := token.IDOf(t.Text)
	if s.out.JSON {
		return s.out.Document(func(o *output.Object) {
			o.Str("name", name)
			o.Str("id", id)
			if s.TokenFile == "" {
				o.Str("token", t.Text)
			}
			o.StrIfAny("token_file", s.TokenFile)
			o.StrIfAny("auth_file", s.AuthFile)
			o.StrIfAny("entry", entry)
		})
	}
	lines := []string{t.Text}
	if s.TokenFile != "" {
		lines[0] = fmt.Sprintf("token %s of %s is in %s", id, name, s.TokenFile)
		if s.AuthFile != "" {
			lines = append(lines, fmt.Sprintf("Next: give %s to every node as auth-file (a node that has it reads the change by itself), and call with dkvctl -tokenFile %s ...", s.AuthFile, s.TokenFile))
		}
	}
	if entry != "" {
		lines = append(lines, "", "# The entry for auth-file:")
		lines = append(lines, strings.Split(strings.TrimSuffix(entry, "\n"), "\n")...)
	}
	for _, line := range lines {
		if err := s.out.Line(line); err != nil {
			return err
		}
	}
	return nil
}

// grants returns the grants that -role, -database and -prefix describe.
func (s *session) grants() ([]auth.Grant, error) {
	if len(s.Roles) == 0 && len(s.Databases)+len(s.Prefixes) > 0 {
		return nil, options.Usagef("-database and -prefix narrow a role: add -role")
	}
	var grants []auth.Grant
	for _, role := range s.Roles {
		g := auth.Grant{Role: auth.Role(role), Databases: s.Databases}
		for _, p := range s.Prefixes {
			g.Prefixes = append(g.Prefixes, []byte(p))
		}
		if err := g.Check(); err != nil {
			return nil, options.Usagef("the grant %v", err)
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// existing opens the auth-file, which must exist.
func (s *session) existing() (*authfile.File, error) {
	if s.AuthFile == "" {
		return nil, options.Usagef("which file? -authFile FILE")
	}
	return authfile.Open(s.AuthFile, false)
}

func (s *session) tokenRevoke(which string) error {
	if strings.HasPrefix(which, token.Prefix) {
		id, ok := token.IDOf(which)
		if !ok {
			return options.Usagef("give the ID or the name of a token, not the token itself")
		}
		which = id
	}
	f, err := s.existing()
	if err != nil {
		return err
	}
	defer f.Close()
	ids, err := f.Revoke(which)
	if err != nil {
		return err
	}
	if err := f.Save(); err != nil {
		return err
	}
	if s.out.JSON {
		return s.out.Value(struct {
			Revoked []string `json:"revoked"`
		}{ids})
	}
	return s.out.Line(fmt.Sprintf("revoked %s in %s; a node rejects revoked tokens as soon as it has the changed file", strings.Join(ids, " and "), s.AuthFile))
}

// tokenRow is a token in -token list; a name without tokens has one row, with its other
// credentials.
type tokenRow struct {
	Name         string     `json:"name"`
	ID           string     `json:"id,omitempty"`
	NotAfter     *time.Time `json:"not_after,omitempty"`
	Certificates []string   `json:"certificates,omitempty"`
	Grants       []string   `json:"grants,omitempty"`
}

func (s *session) tokenList() error {
	f, err := s.existing()
	if err != nil {
		return err
	}
	defer f.Close()
	var rows []tokenRow
	for _, id := range f.Identities() {
		rows = append(rows, rowsOf(id)...)
	}
	if s.out.JSON {
		for _, r := range rows {
			if err := s.out.Value(r); err != nil {
				return err
			}
		}
		return nil
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Name, output.OrDash(r.ID), r.until(), strings.Join(r.Grants, "; ")}
		if len(r.Certificates) > 0 {
			cells[i] = append(cells[i], "certificates: "+strings.Join(r.Certificates, " "))
		}
	}
	return output.WriteColumns(s.out.W, cells)
}

func rowsOf(id policy.Identity) []tokenRow {
	all := tokenRow{Name: id.Name, Certificates: id.Certificates}
	for i := range id.Grants {
		all.Grants = append(all.Grants, authfile.Describe(&id.Grants[i]))
	}
	if len(id.Tokens) == 0 {
		return []tokenRow{all}
	}
	rows := slices.Repeat([]tokenRow{all}, len(id.Tokens))
	for i, t := range id.Tokens {
		rows[i].ID = t.ID
		if !t.NotAfter.IsZero() {
			rows[i].NotAfter = &t.NotAfter
		}
	}
	return rows
}

// until returns when a token ends, as a cell.
func (r *tokenRow) until() string {
	switch {
	case r.ID == "":
		return "no token"
	case r.NotAfter == nil:
		return "valid"
	case time.Now().After(*r.NotAfter):
		return "ended " + r.NotAfter.Format(time.DateOnly)
	}
	return "until " + r.NotAfter.Format(time.DateOnly)
}
