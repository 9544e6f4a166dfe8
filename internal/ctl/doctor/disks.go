package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func diskChecks() []Check {
	return []Check{
		{ID: "disk-room", Title: "there is room on the disk", find: room, Needs: Health, Why: "below disk-reserve every write is rejected; reads go on"},
		{ID: "disk-sync", Title: "the disk is fast", find: slowDisk, Needs: Report, Why: "every acknowledged write waits for the disks of a majority to sync"},
		{ID: "disk-kind", Title: "the data folder survives a restart of the host", find: fleeting, Needs: Report, Why: "many systems empty /tmp and memory file systems when they start"},
		{ID: "diskless", Title: "data is on a disk", find: diskless, Needs: Report, Why: "everything that the node holds is gone when it stops"},
	}
}

const (
	littleRoom  = 0.15
	slowSync    = 20 * time.Millisecond
	stuckSync   = 200 * time.Millisecond
	reserveMany = 3 // so many reserves of room are left
)

func room(p *patient) []Finding {
	return each(p.live(), func(n *observe.Node) *Finding {
		if n.Health == nil || n.Health.Disk.Total == 0 {
			return nil
		}
		d := n.Health.Disk
		f := &Finding{Severity: Warning, What: fmt.Sprintf("%s of %s are free, %.0f %%; writes stop below %s (disk-reserve)", size(d.Free), size(d.Total), 100*float64(d.Free)/float64(d.Total), size(d.Reserve)),
			Mend: "remove what else is on that disk, old backups too, or enlarge it; lower changelog-max-bytes"}
		if n.Role() == observe.Master {
			f.Mend += "; dkvctl -snapshot cuts the Raft log"
		}
		switch {
		case d.Free <= d.Reserve && n.Role() == observe.Slave:
			f.Severity, f.What = Problem, "its copy follows no further: "+f.What
		case d.Free <= d.Reserve:
			f.Severity, f.What = Problem, "writes are rejected: "+f.What
		case d.Free < reserveMany*d.Reserve && float64(d.Free) < littleRoom*float64(d.Total):
			f.Severity = Problem
		case float64(d.Free) >= littleRoom*float64(d.Total):
			return nil
		}
		return f
	})
}

func slowDisk(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		d := n.Report.Disk
		took := time.Duration(d.SyncSeconds * float64(time.Second))
		switch {
		case d.SyncFault != "" && d.Free <= d.Reserve && d.Total > 0:
			return nil // there is no room for it either, which disk-room says
		case d.SyncFault != "":
			return &Finding{Severity: Problem, What: "a small write to " + d.Path + " failed: " + d.SyncFault, Mend: "look at the file system (df -h, dmesg) and at who owns the folder"}
		case took < slowSync:
			return nil
		}
		f := &Finding{Severity: Warning, What: fmt.Sprintf("a small synced write to %s takes %s", d.Path, took.Round(100*time.Microsecond)),
			Mend: "move the folder to a local SSD, or what else writes to that disk away (iostat -x 1 on the host shows it)"}
		if took >= stuckSync {
			f.Severity = Problem
		}
		return f
	})
}

func fleeting(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		path := n.Report.Disk.Path
		for _, bad := range []string{"/tmp/", "/var/tmp/", "/dev/shm/", "/run/"} {
			if strings.HasPrefix(path+"/", bad) {
				return &Finding{Severity: Warning, What: "its data is in " + path, Mend: "stop it, move the folder, for instance to /var/lib/dkvsrv, and set db-folder"}
			}
		}
		return nil
	})
}

func diskless(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Report.Config["diskless"] != "true" || n.Role() == observe.Slave {
			return nil
		}
		return &Finding{Severity: Warning, What: "it is standalone and diskless", Mend: "set db-folder and leave out diskless, unless it is only a cache"}
	})
}
