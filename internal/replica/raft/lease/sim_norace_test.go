//go:build !race

package lease

const defaultRuns = enoughRuns
