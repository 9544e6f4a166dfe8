package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// NodeNameFile is the file in root-folder that records the node-name which was
// derived from the host's name. A container that is recreated has another host name
// and the same volume: without the file it would not find its own data.
const NodeNameFile = "node-name"

// KnownNodes are the nodes that have data below a root-folder.
type KnownNodes struct {
	// Recorded is the name in NodeNameFile; "" if there is none.
	Recorded string
	// Folders are the names of the folders that hold a node's data.
	Folders []string
}

// dataMarker is the file that marks a folder as a node's data. Package datadir writes
// it.
const dataMarker = "dkv.json"

func knownNodes(root string) (KnownNodes, error) {
	var known KnownNodes
	raw, err := os.ReadFile(filepath.Join(root, NodeNameFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return known, err
	}
	known.Recorded = strings.TrimSpace(string(raw))
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return known, err
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(root, e.Name(), dataMarker)); err == nil {
			known.Folders = append(known.Folders, e.Name())
		}
	}
	return known, nil
}

// deriveName fills in a node-name that is not set: the host's name, unless the
// root-folder holds the data of a node that had another one.
func (c *Config) deriveName(host Host) error {
	if c.Node.Name != "" {
		return nil
	}
	name, err := host.Name()
	if err != nil || name == "" {
		return &ValueError{Key: "node-name", Err: fmt.Errorf("this host has no name (%v): set --node-name", err)}
	}
	if c.Storage.DBFolder == "" && !c.Storage.Diskless && host.Nodes != nil {
		if name, err = c.earlierName(host, name); err != nil {
			return err
		}
	}
	c.Node.Name = name
	c.derived("node-name")
	return nil
}

// earlierName returns the name under which this node has kept its data, and
// hostName if there is none.
func (c *Config) earlierName(host Host, hostName string) (string, error) {
	root := c.Storage.RootFolder
	known, err := host.Nodes(root)
	if err != nil {
		return "", &ValueError{Key: "root-folder", Origin: c.origins["root-folder"],
			Err: fmt.Errorf("cannot look for the data of this node: %w; name a folder that this user may read", err)}
	}
	own := slices.Contains(known.Folders, hostName)
	switch r := known.Recorded; {
	case r != "":
		if err := (nameValue{new(string), false}).set(r); err != nil {
			return "", &ValueError{Key: "node-name", Err: fmt.Errorf("%s: %w; write the node's name into it, or set --node-name",
				filepath.Join(root, NodeNameFile), err)}
		}
		if own && r != hostName {
			return "", ambiguous(root, hostName, r, hostName)
		}
		if r != hostName {
			c.notices = append(c.notices, fmt.Sprintf("node-name is %q, as kept in %s, although this host is now called %q; set --node-name to use another name",
				r, filepath.Join(root, NodeNameFile), hostName))
		}
		return r, nil
	case own || len(known.Folders) == 0:
		return hostName, nil
	case len(known.Folders) > 1:
		return "", ambiguous(root, hostName, known.Folders...)
	}
	earlier := known.Folders[0]
	c.notices = append(c.notices, fmt.Sprintf("node-name is %q, whose data is the only one in %s, although this host is now called %q; set --node-name to use another name",
		earlier, root, hostName))
	return earlier, nil
}

// ambiguous is the error of a root-folder with the data of several nodes, any of
// which may be this one.
func ambiguous(root, hostName string, names ...string) error {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return &ValueError{Key: "node-name", Err: fmt.Errorf(
		"%s holds the data of the nodes %s, and it is not known which of them this host (%q) is: set --node-name to one of them, or to a new name for an empty node",
		root, strings.Join(quoted, " and "), hostName)}
}

// KeepsName reports whether node-name was derived and decides where the data is,
// so that it has to be recorded in NodeNameFile once the folder exists.
func (c *Config) KeepsName() bool {
	return !c.Storage.Diskless && c.origins["node-name"].Source == Derived && c.origins["db-folder"].Source == Derived
}
