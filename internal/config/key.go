package config

import (
	"slices"
	"strings"
)

// key describes one key for everything that uses it: the loaders of every
// source, --help, --print-config, validation and notices.
type key struct {
	// name is the flag and, its dots being levels, the path in the YAML file.
	name string
	// def is the default as text; if derived is set, the text of "unset".
	def string
	// derived says what an unset key is derived from; "" for a plain default.
	derived string
	// doc says, in sentences on one line, what the key does and when to raise or
	// lower it.
	doc string
	// traits are further properties.
	traits trait
	// roles are the roles in which the key has an effect; none means all.
	roles []Role
	// field finds the value in a tree.
	field func(*Config) value
}

type trait uint8

const (
	// clashes: two nodes on one host cannot share the default.
	clashes trait = 1 << iota
	// obsolete: accepted from old files, permanently without effect.
	obsolete
	// secret: the value is never printed.
	secret
	// reloads: SIGHUP applies a new value.
	reloads
)

func (k *key) has(t trait) bool { return k.traits&t != 0 }

// env is the environment variable of the key.
func (k *key) env() string { return envPrefix + envName(k.name) }

// isBool reports whether the flag without a value means true.
func (k *key) isBool() bool {
	v := k.field(new(Config))
	b, may := v.(interface{ bare() bool })
	return v.kind() == "" || may && b.bare()
}

// appliesTo reports whether the key has an effect in a role.
func (k *key) appliesTo(r Role) bool { return len(k.roles) == 0 || slices.Contains(k.roles, r) }

// rolesText lists the roles in which the key has an effect.
func (k *key) rolesText() string {
	names := make([]string, len(k.roles))
	for i, r := range k.roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// group is the keys of one concern; --help and the shipped file show them under
// its title.
type group struct {
	title string
	keys  []key
}

// table holds all keys.
type table struct {
	groups []group
	byName map[string]*key
	names  []string // of the keys, in the order of the groups
	// sections are the paths of YAML maps, such as "discovery-service.server".
	sections map[string]bool
}

// newTable builds the table. It is built for each use: a table shared by the
// package would be state that a caller could change.
func newTable() *table {
	t := &table{groups: allGroups(), byName: make(map[string]*key), sections: make(map[string]bool)}
	for k := range t.all {
		t.byName[k.name] = k
		t.names = append(t.names, k.name)
		for i, r := range k.name {
			if r == '.' {
				t.sections[k.name[:i]] = true
			}
		}
	}
	return t
}

// all yields every key in the order of the groups.
func (t *table) all(yield func(*key) bool) {
	for g := range t.groups {
		for k := range t.groups[g].keys {
			if !yield(&t.groups[g].keys[k]) {
				return
			}
		}
	}
}
