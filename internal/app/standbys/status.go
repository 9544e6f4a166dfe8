package standbys

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

// Show has a node's status show the standing sets.
func (s *Standbys) Show(to interface {
	ShowStanding(func(vBucket string) *serverpb.StandingSet)
	ShowRecord(func() string)
	ShowSilence(func() bool)
	ShowRefusal(func(vBucket string) string)
}) {
	if s == nil {
		return
	}
	to.ShowStanding(s.standing)
	to.ShowRefusal(s.refusal)
	if s.record != nil {
		to.ShowRecord(s.record.status)
		to.ShowSilence(s.record.keeper.Silent)
	}
}

// refusal says why this node answers no mutation of a vBucket whose log it owns, although it serves;
// empty if it does.
func (s *Standbys) refusal(vBucket string) string {
	i := slices.IndexFunc(s.logs, func(l *confirm.Log) bool { return l.VBucket() == vBucket })
	if i < 0 {
		return ""
	}
	if r, is := s.replicas[i].(interface{ Sealed() string }); is && r.Sealed() != "" {
		return "a promotion has sealed the log, until that is decided or given up"
	}
	err := s.logs[i].Refusal()
	if err == nil && s.record != nil {
		err = s.record.keeper.Refusal(i)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// standing is the standing set of a vBucket; nil if nothing is waited for.
func (s *Standbys) standing(vBucket string) *serverpb.StandingSet {
	i := slices.IndexFunc(s.logs, func(l *confirm.Log) bool { return l.VBucket() == vBucket })
	if i < 0 {
		return nil
	}
	set, _, err := s.logs[i].Set()
	most := max(set.Level, level(s.node.Config.Replication.Ack))
	if err != nil || most <= kv.AckAsync {
		return nil
	}
	out := &serverpb.StandingSet{Level: most.String(), Fallback: set.Fallback && len(set.Nodes) == 0, Down: set.Down}
	slots := s.logs[i].Slots()
	for _, n := range set.Nodes {
		row := &serverpb.StandingSlave{Address: n.Address, Phase: string(n.Phase)}
		if at := slices.IndexFunc(slots, func(c confirm.Slot) bool { return c.Slave.Disk == n.Disk }); at >= 0 {
			c := &slots[at]
			row.Connected, row.AgeMillis, row.LagChanges = c.Connected, uint64(c.Age.Milliseconds()), c.Lag
			if most >= kv.AckSync {
				row.LagChanges = c.SyncLag
			}
		}
		out.Slaves = append(out.Slaves, row)
	}
	return out
}

// source reports the waits of a node, after the metrics of its role.
type source struct {
	role      metrics.Source
	standbys  *Standbys
	waits     *metrics.Table[confirm.Counts]
	links     *metrics.Table[confirm.Slot]
	record    *metrics.Table[recordNow]
	confirmed *prometheus.Desc
	waited    *prometheus.Desc
	fellBack  *prometheus.Desc
	nodes     *prometheus.Desc
	down      *prometheus.Desc
}

// recordNow is the record in the registry as a master knows it, and for how long its lease lasts.
type recordNow struct {
	record *peerpb.Record
	lease  time.Duration
}

// Metrics adds the metrics of standbys to those of a role.
func (s *Standbys) Metrics(role metrics.Source) metrics.Source {
	if s == nil {
		return role
	}
	database := s.node.Layout.Database
	waits := metrics.NewTable[confirm.Counts](database, "vbucket")
	waits.Add("dkv_ack_refused_total", "Writes that were refused because no slave stands by.", metrics.Counter, func(c confirm.Counts) float64 { return float64(c.Refused) })
	waits.Add("dkv_ack_unconfirmed_total", "Writes and linearizable reads that failed because a standby did not confirm them.", metrics.Counter, func(c confirm.Counts) float64 { return float64(c.Unconfirmed) })
	links := metrics.NewTable[confirm.Slot](database, "vbucket", "slave")
	links.Add("dkv_slave_link_lag_changes", "How many indexes of the log a slave has not confirmed to have received.", metrics.Gauge, func(c confirm.Slot) float64 { return float64(c.Lag) })
	links.Add("dkv_slave_link_unsynced_changes", "How many indexes of the log a slave has not confirmed to have on disk.", metrics.Gauge, func(c confirm.Slot) float64 { return float64(c.SyncLag) })
	links.Add("dkv_slave_link_age_seconds", "How long ago a slave last confirmed anything.", metrics.Gauge, func(c confirm.Slot) float64 { return c.Age.Seconds() })
	record := metrics.NewTable[recordNow](database)
	record.Add("dkv_record_era", "The era of the database's record in the registry, as this master last read it: the number of promotions.", metrics.Gauge, func(r recordNow) float64 { return float64(r.record.GetEra()) })
	record.Add("dkv_record_version", "The version of the database's record in the registry, as this master last read it.", metrics.Gauge, func(r recordNow) float64 { return float64(r.record.GetVersion()) })
	record.Add("dkv_record_standbys", "Slaves that may take over by the database's record in the registry.", metrics.Gauge, func(r recordNow) float64 { return float64(len(r.record.GetStandbys())) })
	record.Add("dkv_record_lease_seconds", "For how long this master still has the lease of the record, without which it answers nothing; 0 without one.", metrics.Gauge, func(r recordNow) float64 { return r.lease.Seconds() })
	constant := metrics.Constant(database)
	return &source{
		role: role, standbys: s, waits: waits, links: links, record: record,
		confirmed: prometheus.NewDesc("dkv_ack_confirmed_total", "Writes and linearizable reads that standbys have confirmed, by level.", []string{"vbucket", "level"}, constant),
		waited:    prometheus.NewDesc("dkv_ack_wait_seconds_total", "How long writes and linearizable reads have waited until standbys confirmed them, together, by level.", []string{"vbucket", "level"}, constant),
		fellBack:  prometheus.NewDesc("dkv_ack_fallbacks_total", "Writes and linearizable reads that were answered without a standby because there is none, by the level that they were to reach.", []string{"vbucket", "level"}, constant),
		nodes:     prometheus.NewDesc("dkv_standbys", "Slaves that the owner of the log waits for, by phase.", []string{"vbucket", "phase"}, constant),
		down:      prometheus.NewDesc("dkv_ack_nodes_down", "Masters and slaves that writes at level all do not wait for, since they were silent.", []string{"vbucket"}, constant),
	}
}

// Describe implements metrics.Source.
func (s *source) Describe(ch chan<- *prometheus.Desc) {
	s.role.Describe(ch)
	s.waits.Describe(ch)
	s.links.Describe(ch)
	s.record.Describe(ch)
	ch <- s.confirmed
	ch <- s.waited
	ch <- s.fellBack
	ch <- s.nodes
	ch <- s.down
}

// Collect implements metrics.Source. Only vBuckets whose answers wait, or whose slaves
// confirm here, have these metrics.
func (s *source) Collect(ch chan<- prometheus.Metric, vBuckets []condition.VBucket) {
	s.role.Collect(ch, vBuckets)
	if r := s.standbys.record; r != nil {
		s.record.Collect(ch, recordNow{r.keeper.Record(), r.keeper.Remaining()})
	}
	configured := level(s.standbys.node.Config.Replication.Ack)
	for _, l := range s.standbys.logs {
		if !l.Owned() {
			continue
		}
		for address, c := range byAddress(l.Slots()) {
			s.links.Collect(ch, c, l.VBucket(), address)
		}
		set, _, err := l.Set()
		if counts := l.Counts(); err == nil && (max(set.Level, configured) > kv.AckAsync || counts != (confirm.Counts{})) {
			s.collect(ch, l.VBucket(), set, counts)
		}
	}
}

// byAddress leaves one slave at each address: a slave that has a new disk is known twice.
func byAddress(slots []confirm.Slot) map[string]confirm.Slot {
	out := make(map[string]confirm.Slot, len(slots))
	for _, c := range slots {
		if other, known := out[c.Slave.Address]; !known || c.Connected && !other.Connected {
			out[c.Slave.Address] = c
		}
	}
	return out
}

func (s *source) collect(ch chan<- prometheus.Metric, vBucket string, set standby.Set, c confirm.Counts) {
	s.waits.Collect(ch, c, vBucket)
	for level := kv.AckSemiSync; level <= kv.AckAll; level++ {
		ch <- prometheus.MustNewConstMetric(s.confirmed, metrics.Counter, float64(c.Confirmed[level]), vBucket, level.String())
		ch <- prometheus.MustNewConstMetric(s.waited, metrics.Counter, c.Waited[level].Seconds(), vBucket, level.String())
		ch <- prometheus.MustNewConstMetric(s.fellBack, metrics.Counter, float64(c.FellBack[level]), vBucket, level.String())
	}
	ch <- prometheus.MustNewConstMetric(s.down, metrics.Gauge, float64(len(set.Down)), vBucket)
	phases := map[standby.Phase]int{standby.Coming: 0, standby.Standing: 0, standby.Leaving: 0}
	for _, n := range set.Nodes {
		phases[n.Phase]++
	}
	for phase, n := range phases {
		ch <- prometheus.MustNewConstMetric(s.nodes, metrics.Gauge, float64(n), vBucket, string(phase))
	}
}
