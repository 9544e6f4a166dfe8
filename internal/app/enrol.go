package app

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/replication"
)

const (
	// enrolPoll is how often a slave looks whether it has to enrol.
	enrolPoll = time.Second
	// renewal is how often it says that it is still there.
	renewal = replication.SlaveRenewal
	// enrolCall bounds one attempt.
	enrolCall = 3 * time.Second
	// leaveCall bounds the attempt to be struck off the list: a stop does not wait for
	// long, but a busy master should hear of it.
	leaveCall = 3 * time.Second
)

// enrol keeps this slave on the list of the cluster that it follows, until ctx ends; then
// it is struck off. Masters forget slaves that they do not hear of. The list is for
// operators, and for clients that know no registry: nothing here depends on it.
func (n *node) enrol(ctx context.Context) {
	self, err := n.asReplica()
	if err != nil {
		return // the node would not have started
	}
	t := time.NewTicker(enrolPoll)
	defer t.Stop()
	listed := "" // the cluster that has listed this slave
	var renewed time.Time
	for {
		f := n.vBuckets[0].hosted.(*followed)
		id, _ := f.Position()
		master := f.puller.Status().Master
		due := id.Cluster != listed || time.Since(renewed) >= renewal
		if due && master != "" && id.Cluster != "" { // a state that names the list
			if err := n.tellMaster(ctx, enrolCall, master, serverpb.DKVReplication_AddReplica_FullMethodName, self); err == nil {
				listed, renewed = id.Cluster, time.Now()
			} else {
				n.log.Debug("not on the master's list of slaves yet", "master", master, "error", err)
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			if listed == "" || master == "" {
				return
			}
			ctx = context.WithoutCancel(ctx)
			if err := n.tellMaster(ctx, leaveCall, master, serverpb.DKVReplication_RemoveReplica_FullMethodName, self); err != nil {
				n.log.Debug("still on the master's list of slaves", "master", master, "error", err)
			}
			return
		}
	}
}

// tellMaster calls a master about this slave.
func (n *node) tellMaster(ctx context.Context, limit time.Duration, master, method string, self *serverpb.Replica) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return n.pool.Call(ctx, master, method, proto.CloneOf(self), new(serverpb.Status))
}
