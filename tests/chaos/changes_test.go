package chaos

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// checkChanges compares a node's change log with the clients' results, and returns the
// differences. Each acknowledged write of a key that is written once must be there once,
// at the index that its client got. A write that was rejected as not applied, or whose
// comparison failed, must not be there.
func (l *load) checkChanges(n *node) (found []string) {
	l.t.Helper()
	at := make(map[string][]uint64) // key and value to the indexes of their changes
	for from := uint64(1); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		resp, err := serverpb.NewDKVReplicationClient(n.conn).GetChanges(ctx,
			&serverpb.GetChangesRequest{FromChangeNumber: from}, grpc.WaitForReady(true))
		cancel()
		if err != nil {
			l.t.Fatalf("changes from %d on node %d: %v", from, n.number, err)
		}
		if len(resp.GetChanges()) == 0 {
			break
		}
		for _, c := range resp.GetChanges() {
			if c.GetChangeNumber() < from {
				l.t.Fatalf("node %d: change %d after %d", n.number, c.GetChangeNumber(), from-1)
			}
			from = c.GetChangeNumber() + 1
			for _, trxn := range c.GetTrxns() {
				if trxn.GetType() == serverpb.TrxnRecord_Put {
					change := pair(string(trxn.GetKey()), string(trxn.GetValue()))
					at[change] = append(at[change], c.GetChangeNumber())
				}
			}
		}
	}
	for _, acknowledged := range []map[string]written{l.ledger, l.updated} {
		for key, w := range acknowledged {
			if got := at[pair(key, w.value)]; len(got) != 1 || got[0] != w.index {
				found = append(found, fmt.Sprintf("node %d has %s = %s, acknowledged at %d, in its changes at %v", n.number, key, w.value, w.index, got))
			}
		}
	}
	for refused := range l.refused {
		if got := at[refused]; len(got) > 0 {
			found = append(found, fmt.Sprintf("node %d has %s, which was not applied as its client was told, in its changes at %v", n.number, refused, got))
		}
	}
	l.t.Logf("node %d: %d different changes hold the %d acknowledged and none of %d refused", n.number, len(at), len(l.ledger)+len(l.updated), len(l.refused))
	return found
}

func pair(key, value string) string { return key + " = " + value }
