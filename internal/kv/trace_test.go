package kv

import (
	"testing"
	"time"
)

func TestTraceAddsUpPhases(t *testing.T) {
	begun := time.Unix(1000, 0)
	var trace Trace
	trace.Add(Read, begun, begun.Add(time.Second))
	trace.Add(Read, begun.Add(time.Minute), begun.Add(time.Minute+time.Second))
	trace.Add(Apply, begun, begun.Add(-time.Second))
	if got := trace.Part(Read); got.Took != 2*time.Second || !got.Begun.Equal(begun) {
		t.Errorf("read: %+v", got)
	}
	if got := trace.Part(Apply); got.Took != 0 {
		t.Errorf("a phase that ended before it began took %v", got.Took)
	}
	var none *Trace
	none.Add(Read, begun, begun.Add(time.Second))
	none.Since(Read, none.Start())
	if got := none.Part(Read); got != (Part{}) {
		t.Errorf("without a trace: %+v", got)
	}
}

func TestPhasesHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range Phases() {
		if seen[p.String()] || p.String() == "" {
			t.Errorf("phase %d is %q", p, p)
		}
		seen[p.String()] = true
	}
}
