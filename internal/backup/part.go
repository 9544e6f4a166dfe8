package backup

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Part is the backup of one vBucket, as its manifest describes it.
type Part struct {
	Dir string
	Info
}

// Own rejects, with a kv.Precondition, the backup of another database or vBucket than the named ones:
// nothing would be left of what they hold.
func (p *Part) Own(database, vBucket string) error {
	switch {
	case p.Database != database:
		return kv.Errorf(kv.Precondition, "backup %s is of database %q, and the one here is %q, of which nothing would be left: "+
			"choose a backup of %q, or restore this one with dkvctl -restore -force", p.Dir, p.Database, database, database)
	case p.VBucket != vBucket:
		return kv.Errorf(kv.Precondition, "backup %s is of vBucket %q, and the one here is %q, of which nothing would be left: "+
			"choose a backup of %q, or restore this one with dkvctl -restore -force", p.Dir, p.VBucket, vBucket, vBucket)
	}
	return nil
}

// Together rejects, with a kv.Precondition, parts that were not made by one backup: the database would have
// keys of several times. Of two without a set only that is noticed in which parts of one never differ.
func Together(parts []Part) error {
	for i := 1; i < len(parts); i++ {
		a, b := &parts[0], &parts[i]
		if a.Set == b.Set && a.Database == b.Database && a.Version == b.Version && a.Engine == b.Engine && a.Encrypted == b.Encrypted {
			continue
		}
		return kv.Errorf(kv.Precondition, "%s is mixed from several backups: vBucket %s is part of %s, vBucket %s of %s. The database would have keys of several times: "+
			"put the folders of one backup together again, or restore this with dkvctl -restore -force", filepath.Dir(a.Dir), a.VBucket, a.of(), b.VBucket, b.of())
	}
	return nil
}

// of names the backup that p is a part of.
func (p *Part) of() string {
	name := p.Set
	if name == "" {
		name = "one without a name, as earlier releases make them,"
	}
	return fmt.Sprintf("%s of database %q (made %s by dkvsrv %s)", name, p.Database, p.Created.Format(time.RFC3339), p.Version)
}

type setKey struct{}

// InSet returns a context for the backups of all vBuckets of a database that are made in folders
// of dir: by the name that they have in common parts of several backups are told apart.
func InSet(ctx context.Context, dir string) context.Context {
	return context.WithValue(ctx, setKey{}, filepath.Base(dir)+"-"+kv.NewID())
}

// SetOf returns the name of the set that backups under ctx are parts of; empty for none.
func SetOf(ctx context.Context) string {
	name, _ := ctx.Value(setKey{}).(string)
	return name
}
