package node

import (
	"strconv"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// Layout is what a node's data folder holds.
type Layout struct {
	// Database is the name of the database that the node keeps, or a part of.
	Database string
	// VBuckets are the names of the parts that the database is cut into, in hash order.
	VBuckets []string
	// VBucket is what the folder records as the vBucket's name. It is the configured one
	// if there are several, whose names are numbers.
	VBucket string
	// Holds keeps a folder from being opened by another role.
	Holds datadir.Contents
}

// The rows of the registry are a database of their own, whatever database the node is
// configured with.
const registryDatabase, registryVBucket = "discovery", "registry"

// LayoutOf is the layout of a configuration.
func LayoutOf(cfg *config.Config) Layout {
	l := Layout{Database: cfg.Node.Database, VBucket: cfg.Node.VBucket}
	switch cfg.Role {
	case config.RoleDiscovery:
		return Layout{
			Database: registryDatabase,
			VBucket:  registryVBucket,
			VBuckets: []string{registryVBucket},
			Holds:    datadir.Registry,
		}
	case config.RoleSlave:
		l.Holds = datadir.Copy
	}
	if cfg.Node.VBuckets == 1 {
		l.VBuckets = []string{cfg.Node.VBucket}
		return l
	}
	for i := range cfg.Node.VBuckets {
		l.VBuckets = append(l.VBuckets, strconv.Itoa(i))
	}
	return l
}
