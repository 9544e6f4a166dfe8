package succession

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/standby/witness"
)

// Unanswered says in a sentence why a master answers no mutation and no linearizable read: it has
// no lease of the record in the registry, or a promotion has sealed its logs. It is empty for
// nothing.
func Unanswered(r role.Role) string {
	if master, is := r.(interface{ Record() *witness.Keeper }); is && master.Record() != nil {
		if err := master.Record().Fault(); err != nil {
			return "no mutation and no linearizable read is answered: " + err.Error()
		}
	}
	for _, v := range r.VBuckets() {
		// Of a master that was replaced the seal stays, and is not to be ended: it says itself what it is.
		if s, is := v.Replica.(sealed); is && s.Sealed() != "" && v.Status().State != replica.Failed {
			return fmt.Sprintf("a promotion has sealed the log of vBucket %s, which accepts no mutation until that is decided or given up; "+
				"if its founder is gone for good, end the seal with dkvctl -promote -abandon here", v.Name)
		}
	}
	return ""
}
