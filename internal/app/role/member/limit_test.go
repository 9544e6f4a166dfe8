package member

import (
	"testing"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
)

// TestMostOfMasters: the configuration's notice states what the log takes.
func TestMostOfMasters(t *testing.T) {
	if host.LargestEntry != config.MostOfMasters {
		t.Errorf("the log takes entries of %d bytes, and a configuration says %d", host.LargestEntry, config.MostOfMasters)
	}
	if most := (host.Size{}).MaxInMemory(); most != uint64(config.MostOfMasters/2) {
		t.Errorf("the log of a host that is not big takes entries of %d bytes, and a configuration says %d", most, config.MostOfMasters/2)
	}
}
