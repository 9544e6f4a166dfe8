// Package access decides which calls a caller may make. It has the one table of calls and
// roles, for gRPC and HTTP alike, and a Guard that applies it: to the caller before the
// request is read, and to the keys of the request afterwards. It belongs to neither
// protocol. The rules are in internal/auth/DESIGN.md, the table is in docs/ACCESS.md.
package access

import (
	"github.com/dkvdb/dkv/internal/auth"
)

// Roles of rows that are no roles of grants.
const (
	// Everyone is the role of calls that need no identity: an orchestrator asks from
	// elsewhere, and has no credentials.
	Everyone auth.Role = "everyone"
	// Any is the role of calls that every identity with a grant may make, whatever its role:
	// clients and tools need them to find nodes.
	Any auth.Role = "any"
)

// Row says what one call needs.
type Row struct {
	// Call is the full name of a gRPC method, or the path of HTTP. The paths below one that
	// ends with a slash belong to it.
	Call string
	// Role is what the caller must have. For a call that needs different roles for
	// different requests, it is the one without which no request is allowed.
	Role auth.Role
	// About says what of the request the role must cover, for the documentation.
	About string
	// Local: without authentication the call is accepted from this machine only, even if
	// allow-insecure opens the others.
	Local bool
	// whole: the call is about a whole database, so a grant with prefixes is not enough.
	whole bool
	// named: the request names the database. Other calls are about that of the node.
	named bool
	// covered reports whether the demand covers a request; nil if there is nothing in it to
	// check.
	covered func(d demand, req any) bool
}

// demand is what a request is checked against.
type demand struct {
	id       *auth.Identity
	role     auth.Role
	database string
}

func (d demand) key(k []byte) bool { return d.id.CoversKey(d.role, d.database, k) }

func (d demand) span(s auth.Span) bool { return d.id.Covers(d.role, d.database, s) }

func (d demand) all() bool { return d.span(auth.Span{}) }

// in is the demand for another database.
func (d demand) in(database string) demand {
	d.database = database
	return d
}

// of is the demand for another role.
func (d demand) of(role auth.Role) demand {
	d.role = role
	return d
}

// admits reports whether an identity may make the call for some request at least.
func (r *Row) admits(id *auth.Identity, database string) bool {
	switch {
	case id.Kind == auth.OfNode || id.Kind == auth.Open:
		return true
	case r.Role == Any:
		return len(id.Grants) > 0
	case r.named:
		return anywhere(id, r.Role)
	case r.whole:
		return demand{id, r.Role, database}.all()
	default:
		return id.Allows(r.Role, database)
	}
}

// anywhere reports whether an identity has a role for any database.
func anywhere(id *auth.Identity, role auth.Role) bool {
	for i := range id.Grants {
		databases := id.Grants[i].Databases
		if len(databases) == 0 && id.Allows(role, "") || len(databases) > 0 && id.Allows(role, databases[0]) {
			return true
		}
	}
	return false
}
