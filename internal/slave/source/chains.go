package source

import (
	"github.com/dkvdb/dkv/api/serverpb"
)

// chains decides which other slaves a slave may follow: those of its own data centre whose
// chain of masters ends at a master without passing this slave.
type chains struct {
	// dc and self are this slave's data centre and address.
	dc, self string
}

// maxChain bounds how many slaves there may be between a slave and the master at the end of
// its chain: each adds to the lag.
const maxChain = 4

// sources returns the slaves among the rows of a vBucket that may be followed.
func (c *chains) sources(rows []*serverpb.RegionInfo) []Source {
	byAddress := make(map[string]*serverpb.RegionInfo, len(rows))
	for _, row := range rows {
		byAddress[row.GetNodeAddress()] = row
	}
	var out []Source
	for _, row := range rows {
		if row.GetStatus() != serverpb.RegionStatus_ACTIVE_SLAVE || row.GetDcID() != c.dc || !c.leads(row, byAddress) {
			continue
		}
		s := sourceOfRow(row)
		s.slave = true
		out = append(out, s)
	}
	return out
}

// leads reports whether a slave's chain ends at a master.
func (c *chains) leads(row *serverpb.RegionInfo, byAddress map[string]*serverpb.RegionInfo) bool {
	for range maxChain {
		if row == nil || row.GetNodeAddress() == c.self {
			return false
		}
		if serves(row.GetStatus()) {
			return true
		}
		row = byAddress[row.GetMasterHost()]
	}
	return false
}

func sourceOfRow(row *serverpb.RegionInfo) Source {
	return Source{
		Address: row.GetNodeAddress(),
		DC:      row.GetDcID(),
		Status:  row.GetStatus(),
		Cluster: row.GetClusterID(),
		History: row.GetHistoryID(),
		Slaves:  row.GetSlaves(),
	}
}
