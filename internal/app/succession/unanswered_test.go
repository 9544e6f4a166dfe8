package succession

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// leasedMaster is a master with one log, which needs the lease of the registry.
type leasedMaster struct {
	role.Role
	record *witness.Keeper
	log    *sealable
}

func (m leasedMaster) Record() *witness.Keeper { return m.record }
func (m leasedMaster) VBuckets() []role.VBucket {
	return []role.VBucket{{Name: "default", Replica: m.log}}
}

// The health document says why a master answers nothing.
func TestMasterSaysWhyItAnswersNothing(t *testing.T) {
	keeper := witness.New(witness.Options{})
	if got := Unanswered(leasedMaster{log: &sealable{by: "p", state: replica.Failed}}); got != "" {
		t.Errorf("a master that was replaced says %q", got)
	}
	for want, m := range map[string]leasedMaster{
		"":                   {log: &sealable{}},
		"sealed the log":     {log: &sealable{by: "p"}},
		"asked for a lease":  {log: &sealable{}, record: keeper},
		"no linearizable re": {log: &sealable{by: "p"}, record: keeper},
	} {
		if got := Unanswered(m); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
