package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/certs/nodeport"
	"github.com/dkvdb/dkv/internal/conns"
)

// serve serves a connection that another node has made, or what pretends to be one.
func (t *transport) serve(c net.Conn) {
	p, err := t.greet(c)
	if err == nil {
		err = t.shown(c)
	}
	if err != nil {
		t.tellStrange(c, err)
		return
	}
	if counted := countedBehind(c); counted != nil {
		// A member's is not given up for one that has not said yet what it is.
		counted.Begin()
		defer counted.End()
	}
	c = metered{c, t.opts.Traffic}
	f := framesOf(c, t.opts.limits.step)
	defer f.letGo()
	if p.purpose == forSnapshot {
		f.keep = most[chunkFrame]
		err = t.takeSnapshot(c, f)
	} else {
		f.acquire = t.acquire
		var sender string
		sender, err = t.takeMessages(f)
		t.lost(sender)
	}
	if err != nil && !t.ends(err) {
		t.tellStrange(c, err)
	}
}

// countedBehind returns the connection that counts for the bounds.
func countedBehind(c net.Conn) *conns.Conn {
	if secure, is := c.(*nodeport.Conn); is {
		c = secure.NetConn()
	}
	counted, _ := c.(*conns.Conn)
	return counted
}

// ends reports whether err is how a connection ends that was in order.
func (t *transport) ends(err error) bool {
	return t.ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

// tellStrange counts a connection that is not one of this cluster's, and logs it now and
// then.
func (t *transport) tellStrange(c net.Conn, err error) {
	if t.ctx.Err() != nil {
		return
	}
	if errors.Is(err, errLateInvitation) {
		t.opts.Log.Debug("a connection to the Raft port is closed", "peer", c.RemoteAddr().String(), "error", err)
		return
	}
	if t.opts.Rejected != nil {
		t.opts.Rejected()
	}
	if n := t.strange.Now(); n > 0 {
		t.opts.Log.Warn("a connection to the Raft port is closed", "peer", c.RemoteAddr().String(), "error", err, "times", n)
	}
}

// greet reads what a connection begins with and answers it.
func (t *transport) greet(c net.Conn) (preface, error) {
	if err := c.SetDeadline(time.Now().Add(t.opts.limits.preface)); err != nil {
		return preface{}, err
	}
	p, err := readPreface(c)
	if err != nil {
		return preface{}, err
	}
	answer := accepted
	switch {
	case p.version != version:
		answer, err = otherVersion, otherVersion.of(p.version)
	case p.deployment != t.deployment:
		answer, err = otherDeployment, fmt.Errorf("it belongs to another cluster (%016x, this one is %016x)", p.deployment, t.deployment)
	case p.purpose != forMessages && p.purpose != forSnapshot:
		answer, err = otherVersion, fmt.Errorf("its purpose, %d, is not known to this release", p.purpose)
	}
	if _, werr := c.Write(encodeAnswer(answer)); err == nil {
		err = werr
	}
	if err != nil {
		return preface{}, err
	}
	return p, c.SetDeadline(time.Time{})
}

// takeMessages hands messages over as they come, until the connection has ended. It returns the
// address of the member that has sent them.
func (t *transport) takeMessages(f *frames) (sender string, err error) {
	for {
		from, err := t.takeBatch(f)
		if err != nil {
			return sender, err
		}
		sender = from
	}
}

func (t *transport) takeBatch(f *frames) (sender string, err error) {
	p, err := f.next(batchFrame, t.opts.limits.idle)
	if err != nil {
		return "", err
	}
	batch, err := decodeBatch(p)
	if err == nil {
		err = checkBatch(&batch, t.deployment)
	}
	if err != nil {
		return "", err
	}
	if t.opts.Seen != nil {
		for i := range batch.Requests {
			t.opts.Seen(&batch.Requests[i])
		}
	}
	return batch.SourceAddress, t.hand(batch)
}

// hand gives messages to Dragonboat. It panics for the address of a sender that is none, or
// another one than it knows that member by, which would take down all vBuckets of the
// process for what came over the network. It holds no lock then.
func (t *transport) hand(batch raftpb.MessageBatch) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("messages from %q are not taken: %v", batch.SourceAddress, cause)
		}
	}()
	t.messages(batch)
	return nil
}

func (t *transport) acquire(n int) (release func(), err error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.opts.limits.step)
	defer cancel()
	if err := t.large.Acquire(ctx, int64(n)); err != nil {
		return nil, fmt.Errorf("too many large messages are under way: %w", err)
	}
	return func() { t.large.Release(int64(n)) }, nil
}

// decodeBatch decodes a batch of messages, which keeps nothing of p.
func decodeBatch(p []byte) (batch raftpb.MessageBatch, err error) {
	// The decoder trusts lengths in a few places.
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("a batch of messages cannot be decoded: %v", cause)
		}
	}()
	if err := batch.Unmarshal(p); err != nil {
		return raftpb.MessageBatch{}, fmt.Errorf("a batch of messages cannot be decoded: %w", err)
	}
	return batch, nil
}

// local are the messages by which a node speaks to itself; another one's would do harm.
var local = map[raftpb.MessageType]bool{
	raftpb.LocalTick: true, raftpb.Election: true, raftpb.LeaderHeartbeat: true, raftpb.ConfigChangeEvent: true,
	raftpb.SnapshotStatus: true, raftpb.Unreachable: true, raftpb.CheckQuorum: true, raftpb.BatchedReadIndex: true,
	raftpb.InstallSnapshot: true, raftpb.LogQuery: true,
}

// checkBatch returns an error for what no member sends. Some of it would end the process.
func checkBatch(batch *raftpb.MessageBatch, deployment uint64) error {
	if batch.DeploymentId != deployment || batch.BinVer != raftio.TransportBinVersion {
		return fmt.Errorf("a batch of messages is for deployment %016x and version %d, here are %016x and %d",
			batch.DeploymentId, batch.BinVer, deployment, raftio.TransportBinVersion)
	}
	for i := range batch.Requests {
		m := &batch.Requests[i]
		if _, known := raftpb.MessageType_name[int32(m.Type)]; !known || local[m.Type] || m.To == 0 {
			return fmt.Errorf("a message of type %v from replica %d to replica %d does not come from another node", m.Type, m.From, m.To)
		}
	}
	return nil
}
