//go:build !linux

package procs

func readStat(int) (stat, error) { return stat{}, ErrUnsupported }
