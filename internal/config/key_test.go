package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

func TestKeyTable(t *testing.T) {
	table := newTable()
	name := regexp.MustCompile(`^[a-z][a-z-]*[a-z](\.[a-z][a-z-]*[a-z])*$`)
	seen, vars := make(map[string]bool), make(map[string]bool)
	for k := range table.all {
		if seen[k.name] || vars[k.env()] || table.sections[k.name] {
			t.Errorf("%s is there twice, as a key, a variable or a section", k.name)
		}
		seen[k.name], vars[k.env()] = true, true
		if !name.MatchString(k.name) {
			t.Errorf("%q is not in the form of a key", k.name)
		}
		if k.doc == "" || strings.ContainsAny(k.doc, "\n#") || !strings.HasSuffix(k.doc, ".") {
			t.Errorf("%s: the description %q is not plain sentences", k.name, k.doc)
		}
		if k.derived != "" && k.def != "" {
			t.Errorf("%s has a default and is derived", k.name)
		}
		v := k.field(Default())
		if k.derived == "" && v.text() != k.def {
			t.Errorf("%s: the default %q is written %q elsewhere", k.name, k.def, v.text())
		}
	}
}

// Two keys must not share a field, nor a field lack its key.
func TestKeysCoverTheTree(t *testing.T) {
	pointers := make(map[uintptr]string)
	c := new(Config)
	for k := range newTable().all {
		p := reflect.ValueOf(k.field(c)).FieldByName("p").Pointer()
		if other := pointers[p]; other != "" {
			t.Errorf("%s and %s are one field", k.name, other)
		}
		pointers[p] = k.name
	}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch {
			case !field.IsExported():
			case field.Type.Kind() == reflect.Struct:
				walk(path+field.Name+".", v.Field(i))
			case pointers[v.Field(i).Addr().Pointer()] == "":
				t.Errorf("no key sets %s%s", path, field.Name)
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
}
