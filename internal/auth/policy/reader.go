package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dkvdb/dkv/internal/suggest"
)

// reader walks the syntax tree instead of decoding into a struct, so that every error has
// its line and no key is ignored.
type reader struct{ file string }

// fields reads the keys of a map; each function gets the value of its key.
type fields map[string]func(*yaml.Node) error

// parseYAML returns the root of a document.
func (r *reader) parseYAML(data []byte) (*yaml.Node, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s has %d bytes and may have %d: remove identities that are not used", r.file, len(data), MaxSize)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: write the key identities", r.file)
	case err != nil:
		return nil, r.malformed(err)
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, r.wrong(&more, "a second document begins here: keep one, the rest would be ignored")
	case !errors.Is(err, io.EOF):
		return nil, r.malformed(err)
	}
	if len(document.Content) == 0 {
		return nil, fmt.Errorf("%s is empty: write the key identities", r.file)
	}
	return document.Content[0], nil
}

// malformed returns the error of a file that is not YAML. The parser's text names the line.
func (r *reader) malformed(err error) error {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
	return fmt.Errorf("%s is not valid YAML: %s", r.file, text)
}

// wrong returns an error at a line of the file.
func (r *reader) wrong(at *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", r.file, at.Line, fmt.Sprintf(format, args...))
}

// fields reads a map. what names it in errors.
func (r *reader) fields(what string, node *yaml.Node, known fields) error {
	if node.Kind != yaml.MappingNode {
		return r.wrong(node, "%s is not a map: write lines of the form key: value", what)
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		read := known[key.Value]
		if key.Kind != yaml.ScalarNode || read == nil {
			return r.wrong(key, "unknown key %q in %s%s", key.Value, what, didYouMean(key.Value, known))
		}
		if first := seen[key.Value]; first != 0 {
			return r.wrong(key, "%s is already set in line %d: keep one of the two", key.Value, first)
		}
		seen[key.Value] = key.Line
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

// didYouMean ends the error about an unknown key.
func didYouMean(key string, known fields) string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	if near := suggest.Nearest(key, names); near != "" {
		return fmt.Sprintf(": did you mean %s?", near)
	}
	return ": it may have " + strings.Join(names, ", ")
}

// list reads a list. what names an element in errors.
func (r *reader) list(what string, node *yaml.Node, element func(*yaml.Node) error) error {
	if node.Kind != yaml.SequenceNode {
		return r.wrong(node, "a list of %s is expected here: write [a, b], or one after a dash on each line", what)
	}
	for _, e := range node.Content {
		if err := element(e); err != nil {
			return err
		}
	}
	return nil
}

// text returns a plain value, which is not empty.
func (r *reader) text(what string, node *yaml.Node) (string, error) {
	if node.Kind != yaml.ScalarNode || node.Value == "" || node.ShortTag() == "!!null" || node.ShortTag() == "!!binary" {
		return "", r.wrong(node, "%s has no plain value: write one, or remove the key", what)
	}
	return node.Value, nil
}

// into returns a function that stores a plain value.
func (r *reader) into(what string, to *string) func(*yaml.Node) error {
	return func(node *yaml.Node) (err error) {
		*to, err = r.text(what, node)
		return err
	}
}

// texts returns a function that stores a list of plain values, each of them once.
func (r *reader) texts(what string, to *[]string) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		return r.list(what, node, func(e *yaml.Node) error {
			text, err := r.text(what, e)
			if err != nil {
				return err
			}
			if slices.Contains(*to, text) {
				return r.wrong(e, "%q is in the list already: remove one of the two", text)
			}
			*to = append(*to, text)
			return nil
		})
	}
}

// count returns a function that stores a number from 1.
func (r *reader) count(what string, to *int) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		n, err := strconv.ParseInt(node.Value, 10, 32)
		if node.Kind != yaml.ScalarNode || err != nil || n < 1 {
			return r.wrong(node, "%s is not a number from 1 to 2147483647: write one, or remove the key for no limit", what)
		}
		*to = int(n)
		return nil
	}
}
