// Package history checks what clients saw during a drill. Each key is a register with one writer,
// who writes the versions 1, 2, 3 and so on, and leaves the key after a write whose outcome it
// does not know. A read is then certain to be stale if it returns less than what was
// acknowledged, or read, before it began.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Kind is that of an operation.
type Kind string

// The operations of a drill's load.
const (
	Put        Kind = "put"
	Get        Kind = "get"        // linearizable
	Sequential Kind = "sequential" // at a slave
)

// Op is an operation as its client saw it. Times are since the load began, on one clock.
type Op struct {
	Kind Kind
	// Series is the worker that has done it, one operation after the other.
	Series string
	Key    string
	// Version was written, or read; 0 is an absent key.
	Version    uint64
	Begin, End time.Duration
	// Failed is what kind of error it ended with; empty if it succeeded.
	Failed string
}

// OK reports whether the operation succeeded.
func (o *Op) OK() bool { return o.Failed == "" }

// Finding is a read that no register can have answered.
type Finding struct {
	Op   Op
	Text string
}

// Stale returns the linearizable reads that are stale, and all reads of what had not been
// written.
func Stale(ops []Op) (out []Finding) {
	byKey := make(map[string][]Op)
	for _, o := range ops {
		byKey[o.Key] = append(byKey[o.Key], o)
	}
	for _, of := range byKey {
		out = append(out, staleOf(of)...)
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.Op.Begin, b.Op.Begin) })
	return out
}

// staleOf checks one register.
func staleOf(ops []Op) (out []Finding) {
	begun := make(map[uint64]time.Duration) // by version, when its write began
	var known, reads []Op                   // known is what shows that a version was there
	for _, o := range ops {
		if o.Kind == Put {
			begun[o.Version] = o.Begin
		}
		if o.OK() && o.Kind != Sequential {
			known = append(known, o)
		}
		if o.OK() && o.Kind != Put {
			reads = append(reads, o)
		}
	}
	slices.SortFunc(known, func(a, b Op) int { return cmp.Compare(a.End, b.End) })
	slices.SortFunc(reads, func(a, b Op) int { return cmp.Compare(a.Begin, b.Begin) })
	least, next := uint64(0), 0
	for _, r := range reads {
		for ; next < len(known) && known[next].End < r.Begin; next++ {
			least = max(least, known[next].Version)
		}
		at, written := begun[r.Version]
		switch {
		case r.Version != 0 && (!written || at > r.End):
			out = append(out, Finding{r, fmt.Sprintf("%s has version %d, which was not written by then", r.Key, r.Version)})
		case r.Kind == Get && r.Version < least:
			out = append(out, Finding{r, fmt.Sprintf("%s has version %d, and version %d was there before the read began", r.Key, r.Version, least)})
		}
	}
	return out
}

// Lag returns for how long, at most, reads of one series had been out of date when they began:
// the time since a newer version than they returned was acknowledged.
func Lag(ops []Op, series string, from time.Duration) (longest time.Duration) {
	acked := make(map[string][]Op)
	for _, o := range ops {
		if o.Kind == Put && o.OK() {
			acked[o.Key] = append(acked[o.Key], o)
		}
	}
	for _, r := range ops {
		if r.Series != series || r.Kind != Sequential || !r.OK() || r.Begin < from {
			continue
		}
		of := acked[r.Key] // in order: a key has one writer
		i, _ := slices.BinarySearchFunc(of, r.Version+1, func(o Op, v uint64) int { return cmp.Compare(o.Version, v) })
		if i < len(of) && of[i].End < r.Begin {
			longest = max(longest, r.Begin-of[i].End)
		}
	}
	return longest
}

// Gap is how a kind of operation fared after a moment, over all series.
type Gap struct {
	// First is the longest that a series took from that moment to the end of the first
	// operation that began after it and succeeded, and Longest the longest time of a series
	// between two that succeeded.
	First, Longest time.Duration
	// Stuck are the series that had no success any more, or none at all.
	Stuck int
}

// GapOf returns the gap of a kind from a moment on, until the load ended: of all series that
// have an operation of the kind, or of the one that is named, which may have none.
func GapOf(ops []Op, kind Kind, series string, from, end time.Duration) (g Gap) {
	bySeries := make(map[string][]Op) // those that succeeded
	if series != "" {
		bySeries[series] = nil
	}
	for _, o := range ops {
		if o.Kind != kind || series != "" && o.Series != series {
			continue
		}
		of := bySeries[o.Series]
		if o.OK() {
			of = append(of, o)
		}
		bySeries[o.Series] = of
	}
	for _, of := range bySeries {
		last, first := time.Duration(0), time.Duration(-1)
		for _, o := range of {
			if o.End > from {
				g.Longest = max(g.Longest, o.End-last)
			}
			if o.Begin >= from && first < 0 {
				first = o.End - from
			}
			last = o.End
		}
		g.Longest = max(g.Longest, end-max(last, min(from, end)))
		if first < 0 {
			g.Stuck++
			first = end - from
		}
		g.First = max(g.First, first)
	}
	return g
}
