// Package report describes a node, its host and its configuration for tools that look for
// what is wrong with a cluster, such as dkvctl -doctor. It measures and reads; what of it is
// bad is for the tool to say, which sees all nodes.
package report

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/config"
)

// Document is the answer of GET /admin/node.
type Document struct {
	// Config are all keys in effect but secrets.
	Config map[string]string `json:"config"`
	// Set are the keys that were set, and not left to their default.
	Set          []string      `json:"set"`
	Notices      []string      `json:"notices"`
	Host         Host          `json:"host"`
	Disk         Disk          `json:"disk"`
	Certificates []Certificate `json:"certificates"`
	Backups      Backups       `json:"backups"`
}

// Certificate is one that the node uses.
type Certificate struct {
	Of       string    `json:"of"` // node or authority
	File     string    `json:"file"`
	NotAfter time.Time `json:"not_after"`
}

// Of describes a node.
func Of(ctx context.Context, n *node.Node) Document {
	d := Document{
		Config:       n.Config.Values(),
		Set:          n.Config.SetKeys(),
		Notices:      n.Config.Notices(),
		Host:         hostOf(config.OpenFiles()),
		Certificates: []Certificate{},
		Backups:      backupsIn(n.Config.Storage.BackupDir),
	}
	if n.Dir != nil {
		usage := n.Guard.Usage()
		d.Disk = Disk{Path: n.Dir.Path(), FreeBytes: usage.Free, TotalBytes: usage.Total, ReserveBytes: usage.Reserve}
		d.Disk.measure(ctx)
	}
	for _, e := range n.Certs.Expiries() {
		d.Certificates = append(d.Certificates, Certificate{Of: e.Of, File: e.File, NotAfter: e.At})
	}
	d.Host.Time = time.Now() // after what takes a while
	return d
}
