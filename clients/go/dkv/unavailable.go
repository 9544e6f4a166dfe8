package dkv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// otherCluster returns the error of a node of another cluster, if one has answered lately
// and no node of the client's own cluster leads.
func (l *learner) otherCluster() error {
	if l == nil || l.leadersKnown() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.otherAt) > recentlySeen {
		return nil
	}
	return l.otherErr
}

// noteOtherCluster remembers the error of a node of another cluster. The caller holds l.mu.
func (l *learner) noteOtherCluster(err error) { l.otherErr, l.otherAt = err, time.Now() }

// permanent returns the error that keeps the topology from being known if waiting cannot
// help: every address fails with an error of that sort.
func (l *learner) permanent() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.registry != nil && (permanent(l.registry) || errors.Is(l.registry, ErrInvalid)) && len(l.probes) == 0 {
		return l.registry
	}
	var last error
	for _, p := range l.probes {
		if p.err == nil || !permanent(p.err) {
			return nil
		}
		last = p.err
	}
	return last
}

// unknownTopology returns the error of a call that waited for the topology until cause
// ended it. It quotes up to five different errors of the nodes.
func (l *learner) unknownTopology(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var texts []string
	if l.registry != nil {
		texts = append(texts, l.registry.Error())
	}
	for _, p := range l.probes {
		if p.err != nil {
			texts = append(texts, p.err.Error())
		}
	}
	if l.otherErr != nil {
		texts = append(texts, l.otherErr.Error())
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) == 0 {
		texts = append(texts, "no answer yet")
	}
	const most = 5
	if len(texts) > most {
		texts = append(texts[:most], "...")
	}
	return errorf(ErrUnavailable, "no node of %s says who serves the database: %w; %s",
		strings.Join(l.client.target.addrs, ","), cause, strings.Join(texts, "; "))
}

// wrongDatabase is the error of a node that serves another database.
func wrongDatabase(addr, got, want string) error {
	return &Error{Kind: ErrPrecondition, Address: addr, Err: fmt.Errorf("node %s serves database %q, not %q", addr, got, want)}
}
