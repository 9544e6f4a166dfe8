// Package top shows a cluster as it is now: a frame of text with what is wrong and a row for
// each node, and the screen on which frames follow each other.
package top

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
)

// rates are what happened at a node between two looks at it. Known is false if it was not
// seen twice.
type rates struct {
	Known            bool
	Requests, Errors float64 // a second
	P99              time.Duration
}

// ratesOf compares a node with how it was before. Counters that went back are those of a new
// process.
func ratesOf(before, now *observe.Node, apart time.Duration) rates {
	if before == nil || before.Metrics == nil || now.Metrics == nil || apart <= 0 {
		return rates{}
	}
	all, failed := now.Metrics.Requests()
	allBefore, failedBefore := before.Metrics.Requests()
	if all < allBefore {
		return rates{}
	}
	return rates{
		Known:    true,
		Requests: (all - allBefore) / apart.Seconds(),
		Errors:   max(0, failed-failedBefore) / apart.Seconds(),
		P99:      percentile(before.Metrics.Durations(), now.Metrics.Durations(), 0.99),
	}
}

// percentile returns below which duration a share of the requests between two histograms
// was, by linear interpolation in the bucket that it falls into; 0 if there were none.
func percentile(before, now map[float64]uint64, share float64) time.Duration {
	bounds := slices.Sorted(maps.Keys(now))
	if len(bounds) == 0 {
		return 0
	}
	last := bounds[len(bounds)-1]
	total := float64(now[last]) - float64(before[last])
	if total <= 0 {
		return 0
	}
	lower, below := 0.0, 0.0
	for _, bound := range bounds {
		upTo := float64(now[bound]) - float64(before[bound])
		if upTo >= share*total {
			if math.IsInf(bound, 1) {
				return seconds(lower) // all that is known is that it is more
			}
			return seconds(lower + (bound-lower)*(share*total-below)/max(upTo-below, 1))
		}
		lower, below = bound, upTo
	}
	return seconds(lower)
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
