package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/suggest"
)

// yamlReader converts a YAML document to settings. It walks the syntax tree instead
// of decoding into a struct, so that every error has its line and no key is ignored.
type yamlReader struct {
	table    *table
	file     string
	settings []setting
	lines    map[string]int // by key or section
}

// parseYAML reads a configuration file's content; name is for messages.
func parseYAML(t *table, name string, data []byte) ([]setting, error) {
	r := &yamlReader{table: t, file: name, lines: make(map[string]int)}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing but comments
	case err != nil:
		return nil, r.malformed(err)
	}
	var more yaml.Node
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, r.misuse(more.Line, "a second document begins here: keep one, the rest would be ignored")
	case !errors.Is(err, io.EOF):
		return nil, r.malformed(err)
	}
	if len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil, nil
	}
	if err := r.section("", document.Content[0]); err != nil {
		return nil, err
	}
	return r.settings, nil
}

// section reads a map whose keys have the given prefix.
func (r *yamlReader) section(prefix string, node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		where := "the file"
		if prefix != "" {
			where = strings.TrimSuffix(prefix, ".")
		}
		return r.misuse(node.Line, "%s holds keys, not a %s: write lines of the form key: value", where, kindOf(node))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if err := r.entry(prefix, node.Content[i], node.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one key of a map.
func (r *yamlReader) entry(prefix string, name, node *yaml.Node) error {
	if name.Kind != yaml.ScalarNode {
		return r.misuse(name.Line, "a %s cannot be a key: write a name from dkvsrv --help", kindOf(name))
	}
	path := prefix + name.Value
	k, isSection := r.table.byName[path], r.table.sections[path]
	if k == nil && !isSection {
		return r.misuse(name.Line, "unknown key %s%s", oneLine(path), didYouMean("", r.nearest(path)))
	}
	if first := r.lines[path]; first != 0 {
		return r.misuse(name.Line, "%s is already set in line %d: keep one of the two", path, first)
	}
	r.lines[path] = name.Line
	if isSection {
		if isNull(node) {
			return nil // all its keys are commented out
		}
		return r.section(path+".", node)
	}
	text, err := r.text(k, node)
	if err != nil {
		return err
	}
	r.settings = append(r.settings, setting{k, text, Origin{Source: FromFile, Name: r.file, Line: name.Line}})
	return nil
}

// text returns a key's value in the form of the flag of the same name.
func (r *yamlReader) text(k *key, node *yaml.Node) (string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		return r.scalar(k, node)
	case yaml.SequenceNode:
		if !strings.HasSuffix(k.field(new(Config)).kind(), ",...") {
			break
		}
		elements := make([]string, len(node.Content))
		for i, element := range node.Content {
			if element.Kind != yaml.ScalarNode {
				return "", r.misuse(element.Line, "an element of %s is a %s: write plain values", k.name, kindOf(element))
			}
			text, err := r.scalar(k, element)
			if err != nil {
				return "", err
			}
			elements[i] = text
		}
		return strings.Join(elements, ","), nil
	}
	return "", r.misuse(node.Line, "%s takes one value, not a %s", k.name, kindOf(node))
}

// scalar returns the text of a plain or quoted value.
func (r *yamlReader) scalar(k *key, node *yaml.Node) (string, error) {
	switch node.ShortTag() {
	case "!!null":
		return "", r.misuse(node.Line, `%s has no value: write one ("" is the empty one) or comment the line out`, k.name)
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
		return node.Value, nil
	default:
		return "", r.misuse(node.Line, "%s has the tag %s: write a plain value", k.name, oneLine(node.Tag))
	}
}

// nearest returns the known key or section that path probably means.
func (r *yamlReader) nearest(path string) string {
	sections := slices.Sorted(maps.Keys(r.table.sections))
	return suggest.Nearest(path, slices.Concat(r.table.names, sections))
}

// misuse returns a UsageError at a line of the file.
func (r *yamlReader) misuse(line int, format string, args ...any) error {
	return &UsageError{Where: place(r.file, line), Text: fmt.Sprintf(format, args...)}
}

// malformed returns the error of a file that is not YAML. The parser's text names the
// line.
func (r *yamlReader) malformed(err error) error {
	text := oneLine(strings.TrimPrefix(err.Error(), "yaml: "))
	if strings.Contains(text, "found a tab") || strings.Contains(text, "found character that cannot start any token") {
		text += "; indent with spaces"
	}
	return &ValueError{Err: fmt.Errorf("%s is not valid YAML: %s", r.file, text)}
}

// isNull reports whether a node has no value.
func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// kindOf names the kind of a node for messages.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "map"
	case yaml.SequenceNode:
		return "list"
	case yaml.AliasNode:
		return "reference to an anchor"
	default:
		return "single value"
	}
}

// oneLine quotes text that would break the line of an error message.
func oneLine(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || text == "" {
		return fmt.Sprintf("%q", text)
	}
	return text
}
