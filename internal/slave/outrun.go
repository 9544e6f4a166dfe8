package slave

import (
	"fmt"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// loaded is the index of a snapshot that was loaded, and how long that took.
type loaded struct {
	at   kv.Index
	took time.Duration
}

// outrun notes that the copy is loaded again, from a master, although it is a snapshot's that was just loaded. If the
// master removes changes sooner than a snapshot arrives, that goes on for ever, and more retention is the
// only end: masters hold back no changes beyond their limits for a slave.
func (p *Puller) outrun(master string, at kv.Index) {
	if p.loaded.took == 0 || p.loaded.at != at {
		return
	}
	why := fmt.Sprintf("the last snapshot took %s to load, and by then the changes that come after it were removed: "+
		"let the masters keep what is written in so long a time (changelog-max-bytes, changelog-max-age), or write less, or bring the slave nearer", p.loaded.took.Round(time.Second))
	p.log.Warn("a snapshot takes longer than the master keeps changes; starting over", "master", master, "index", at, "took", p.loaded.took.Round(time.Second),
		"remedy", "raise changelog-max-bytes and changelog-max-age on the masters")
	p.status.outrun(why)
}
