package slave

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/replication"
)

const (
	// renewal is how often a slave says that it is still there.
	renewal = replication.SlaveRenewal
	// enrolAgain is how long it waits after an attempt that failed.
	enrolAgain = time.Second
	// enrolCall bounds one attempt.
	enrolCall = 3 * time.Second
	// leaveCall bounds the attempt to leave the list: a stop does not wait for long, but a
	// busy master should hear of it.
	leaveCall = 3 * time.Second
)

// enrol keeps this slave on the list of slaves of the cluster that it follows, until ctx
// ends; then it takes it off. Masters forget slaves that they do not hear of. The list is
// for operators, and for clients that use no registry: nothing here depends on it.
func (s *Slave) enrol(ctx context.Context) {
	// listed is the cluster that has listed this slave. told is the last master that it followed
	// since it asked to be listed: at the end there may be none that it follows.
	listed, told := "", ""
	var renew, again time.Time
	s.node.Watch(ctx, func() time.Duration {
		cluster := s.copies[0].Cluster()
		master := s.copies[0].puller.Status().Master
		if told != "" && master != "" {
			told = master
		}
		switch now := time.Now(); {
		case cluster == "" || master == "": // the list is that of the state's cluster
			return renewal
		case now.Before(again):
			return again.Sub(now)
		case cluster == listed && now.Before(renew):
			return renew.Sub(now)
		}
		told = master
		if err := s.tellMaster(ctx, enrolCall, master, serverpb.DKVReplication_AddReplica_FullMethodName); err != nil {
			s.node.Log.Debug("not on the master's list of slaves yet", "master", master, "error", err)
			again = time.Now().Add(enrolAgain)
			return enrolAgain
		}
		listed, renew = cluster, time.Now().Add(renewal)
		return renewal
	})
	if told != "" && s.copies[0].Sealed() == "" { // else a promotion replaces that master, which may not answer
		s.leave(context.WithoutCancel(ctx), told)
	}
}

// leave takes this slave off its master's list.
func (s *Slave) leave(ctx context.Context, master string) {
	if err := s.tellMaster(ctx, leaveCall, master, serverpb.DKVReplication_RemoveReplica_FullMethodName); err != nil {
		s.node.Log.Debug("still on the master's list of slaves", "master", master, "error", err)
	}
}

// tellMaster calls a master about this slave.
func (s *Slave) tellMaster(ctx context.Context, limit time.Duration, master, method string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.pool.Call(ctx, master, method, proto.CloneOf(s.self), new(serverpb.Status))
}
