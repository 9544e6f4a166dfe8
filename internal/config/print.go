package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Render writes the output of an action other than Run: the help, the given version,
// the configuration in effect, or that it is valid.
func (inv *Invocation) Render(w io.Writer, version string) error {
	switch inv.Action {
	case ShowHelp:
		return writeHelp(w)
	case ShowVersion:
		_, err := fmt.Fprintf(w, "dkvsrv %s\n", version)
		return err
	case PrintConfig:
		return inv.Config.Print(w)
	case CheckConfig:
		return inv.Config.writeVerdict(w)
	default:
		return nil
	}
}

// writeVerdict writes that the configuration is valid, and its notices.
func (c *Config) writeVerdict(w io.Writer) error {
	file := c.file
	if file == "" {
		file = "no file, built-in defaults"
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "the configuration is valid (%s)\n", file)
	for _, notice := range c.Notices() {
		fmt.Fprintln(out, "note:", notice)
	}
	return out.Flush()
}

// Print writes the configuration in effect as YAML, with the source of each value
// beside it. Secrets are left out, and so are the names of files that hold them, since
// users write tokens in place of a file's name. Apart from that the output loads again
// to the same values, except for a derived address with port 0, which cannot be set as
// the advertised one.
func (c *Config) Print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	maps := map[string]*yaml.Node{"": root}
	for k := range newTable().all {
		path, name := "", k.name
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
			path, name = name[:dot], name[dot+1:]
		}
		c.printKey(yamlMap(maps, path), k, name)
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return encoder.Close()
}

// Values returns the text of every key in effect, by name. Secrets are left out.
func (c *Config) Values() map[string]string {
	values := make(map[string]string)
	for k := range newTable().all {
		if !k.has(secret) {
			values[k.name] = k.field(c).text()
		}
	}
	return values
}

// SetKeys returns the names of the keys that a source has set, in the order of the help.
func (c *Config) SetKeys() []string {
	names := []string{}
	for k := range newTable().all {
		if c.IsSet(k.name) {
			names = append(names, k.name)
		}
	}
	return names
}

// yamlMap returns the map at a dotted path, and creates the missing levels.
func yamlMap(maps map[string]*yaml.Node, path string) *yaml.Node {
	if node := maps[path]; node != nil {
		return node
	}
	parent, name := "", path
	if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
		parent, name = path[:dot], path[dot+1:]
	}
	node := &yaml.Node{Kind: yaml.MappingNode}
	above := yamlMap(maps, parent)
	above.Content = append(above.Content, scalarNode(name), node)
	maps[path] = node
	return node
}

// printKey adds one key to its map.
func (c *Config) printKey(node *yaml.Node, k *key, name string) {
	text, comment := k.field(c).text(), c.origins[k.name].String()
	if k.has(secret) && text != "" {
		text, comment = "", comment+", hidden"
	}
	if k.name == "disk-reserve" && c.Storage.DiskReserve == 0 && !c.Storage.noReserve {
		text, comment = c.Storage.ReserveOf(c.fileSystem).String(), comment+": "+k.derived
	}
	value := scalarNode(text)
	value.LineComment = strings.ToValidUTF8(comment, "?")
	node.Content = append(node.Content, scalarNode(name), value)
}

// scalarNode is text that the encoder quotes if plain text would be read as another
// type.
func scalarNode(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch plain := (&yaml.Node{Kind: yaml.ScalarNode, Value: text}); plain.ShortTag() {
	case "!!int", "!!bool", "!!float":
		return plain
	}
	return node
}
