package doctor

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

func backupChecks() []Check {
	return []Check{
		{ID: "backup-age", Title: "there is a recent backup", find: backupAge, Needs: Report,
			Why: "copies on other nodes repeat a wrong deletion at once: only a backup brings it back"},
		{ID: "backup-place", Title: "backups are not on the data's disk", find: backupPlace, Needs: Report, Why: "a lost disk takes the data and its backups"},
		{ID: "backup-read", Title: "backup-dir can be read", find: backupRead, Needs: Report, Why: "a backup or restore into it would fail"},
	}
}

const backupOld = 7 * 24 * time.Hour

// backupAge looks for the newest backup of each database on any of its nodes, but masters that were
// replaced: the backups that they make are new, and what is in them is not.
func backupAge(p *patient) []Finding {
	newest := make(map[string]time.Time)
	of := make(map[string]*observe.Node)
	var order []string
	for _, n := range p.reported() {
		if n.Role() == observe.Discovery || replaced(n) {
			continue
		}
		database := n.Status.GetDatabase()
		if of[database] == nil {
			of[database], order = n, append(order, database)
		}
		if last := n.Report.Backups.Last; last.After(newest[database]) {
			newest[database] = last
		}
	}
	var out []Finding
	for _, database := range order {
		mend := fmt.Sprintf("dkvctl -a %s -backup %s, every night from cron; then copy it elsewhere", of[database].Address, database+"-"+p.now.Format("2006-01-02"))
		switch last := newest[database]; {
		case last.IsZero():
			out = append(out, Finding{Severity: Warning, What: fmt.Sprintf("no backup-dir has a backup of database %q", database), Mend: mend})
		case p.now.Sub(last) > backupOld:
			out = append(out, Finding{Severity: Warning, What: fmt.Sprintf("the newest backup of database %q is %d days old", database, int(p.now.Sub(last).Hours()/24)), Mend: mend})
		}
	}
	return out
}

func backupPlace(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		b := n.Report.Backups
		inside, err := filepath.Rel(n.Report.Disk.Path, b.Dir)
		if b.Count == 0 || n.Report.Disk.Path == "" || err != nil || strings.HasPrefix(inside, "..") {
			return nil
		}
		return &Finding{Severity: Warning, What: fmt.Sprintf("its %d backups are inside db-folder, in %s", b.Count, b.Dir), Mend: "set backup-dir to a folder on another disk, or copy each backup elsewhere"}
	})
}

func backupRead(p *patient) []Finding {
	return each(p.reported(), func(n *observe.Node) *Finding {
		if n.Report.Backups.Fault == "" {
			return nil
		}
		return &Finding{Severity: Warning, What: n.Report.Backups.Fault, Mend: "give the user that dkvsrv runs as the folder, or set backup-dir to another one"}
	})
}
