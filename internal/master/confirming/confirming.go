// Package confirming is the gRPC call by which slaves confirm to the owners of logs how far
// they are, and are told what is wanted of them.
package confirming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/standby/confirm"
)

// Service serves Standby.Confirm at a node that may own logs.
type Service struct {
	logs    map[string]*confirm.Log
	changed *signal.Signal
	close   sync.Once
	closing chan struct{}
}

// New makes the service over the logs of a node. changed is raised when what is wanted of
// slaves may have changed.
func New(logs []*confirm.Log, changed *signal.Signal) *Service {
	s := &Service{logs: make(map[string]*confirm.Log, len(logs)), changed: changed, closing: make(chan struct{})}
	for _, l := range logs {
		s.logs[l.VBucket()] = l
	}
	return s
}

// Close ends all calls. It is idempotent.
func (s *Service) Close() { s.close.Do(func() { close(s.closing) }) }

// Stream is the stream of a call.
type Stream = grpc.BidiStreamingServer[peerpb.Confirmation, peerpb.Wanted]

var errClosing = kv.Errorf(kv.Unavailable, "the node is shutting down")

// Confirm implements peerpb.StandbyServer.
func (s *Service) Confirm(stream Stream) error {
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	link, err := introduced(first)
	if err != nil {
		return err
	}
	t := &talk{service: s, stream: stream, link: link, mentioned: make(map[string]*confirm.Log), more: make(chan struct{}, 1)}
	defer t.lost()
	failed := make(chan error, 1)
	go func() { failed <- t.listen(first) }() // it ends with the stream, when this call returns
	return t.tell(stream.Context(), failed)
}

// What bounds the fields of an introduction, in bytes.
const maxID, maxAddress = 128, 512

func introduced(c *peerpb.Confirmation) (*confirm.Link, error) {
	switch {
	case c.GetDisk() == "" || len(c.GetDisk()) > maxID:
		return nil, kv.Errorf(kv.Invalid, "the first confirmation of a stream names a disk, of up to %d bytes", maxID)
	case c.GetStart() == 0:
		return nil, kv.Errorf(kv.Invalid, "the first confirmation of a stream names the start of the slave")
	case c.GetAddress() == "" || len(c.GetAddress()) > maxAddress || len(c.GetDc()) > maxAddress:
		return nil, kv.Errorf(kv.Invalid, "the first confirmation of a stream names the address and the data centre, of up to %d bytes", maxAddress)
	}
	return confirm.NewLink(confirm.Slave{
		Disk: c.GetDisk(), Start: c.GetStart(), Address: c.GetAddress(), DC: c.GetDc(), Durable: c.GetDurable(),
	}), nil
}

// talk is one call.
type talk struct {
	service *Service
	stream  Stream
	link    *confirm.Link

	mu sync.Mutex
	// mentioned are the logs that the slave has confirmed to.
	mentioned map[string]*confirm.Log
	// over is set when the call has ended.
	over bool
	// more holds a token when mentioned has grown.
	more chan struct{}
}

// listen notes what the slave confirms until the stream ends.
func (t *talk) listen(c *peerpb.Confirmation) error {
	for {
		if err := t.note(c); err != nil {
			return err
		}
		var err error
		if c, err = t.stream.Recv(); err != nil {
			return err
		}
	}
}

func (t *talk) note(c *peerpb.Confirmation) error {
	l := t.service.logs[c.GetVBucket()]
	if l == nil {
		return kv.Errorf(kv.NotFound, "this node has no vBucket %.64q", c.GetVBucket())
	}
	if len(c.GetHistory()) > maxID {
		return kv.Errorf(kv.Invalid, "the history of a confirmation has %d bytes", len(c.GetHistory()))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over { // lost has been called for all logs
		return errClosing
	}
	err := l.Confirm(t.link, confirm.Position{
		History: c.GetHistory(), Received: c.GetReceived(), Applied: c.GetApplied(), Synced: c.GetSynced(),
	})
	if _, known := t.mentioned[l.VBucket()]; known || err != nil {
		return err
	}
	t.mentioned[l.VBucket()] = l
	select {
	case t.more <- struct{}{}:
	default:
	}
	return nil
}

// lookAgain is how often what is wanted is compared with what the slave was told.
const lookAgain = 250 * time.Millisecond

// tell tells the slave what is wanted of it, until the stream fails or ends.
func (t *talk) tell(ctx context.Context, failed <-chan error) error {
	told := make(map[string]confirm.Wanted)
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		changed := t.service.changed.Changed()
		if err := t.tellChanges(told); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-again.C:
		case <-t.more:
		case err := <-failed:
			return ended(err)
		case <-t.service.closing:
			return errClosing
		case <-ctx.Done():
			return ended(context.Cause(ctx))
		}
	}
}

// tellChanges sends what is wanted by now, for each log if it is not what was told before.
func (t *talk) tellChanges(told map[string]confirm.Wanted) error {
	t.mu.Lock()
	logs := make([]*confirm.Log, 0, len(t.mentioned))
	for _, l := range t.mentioned {
		logs = append(logs, l)
	}
	t.mu.Unlock()
	for _, l := range logs {
		w := l.Wanted(t.link.Slave.Disk)
		if before, known := told[l.VBucket()]; known && before == w {
			continue
		}
		told[l.VBucket()] = w
		if err := t.stream.Send(&peerpb.Wanted{VBucket: l.VBucket(), Listed: w.Listed, Sync: w.Sync, Owner: w.Owner}); err != nil {
			return err
		}
	}
	return nil
}

// lost notes that the call has ended.
func (t *talk) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	for _, l := range t.mentioned {
		l.Lost(t.link)
	}
}

// ended is the error of a stream that the slave has ended, or that has failed; nil if the slave
// has said that it says no more.
func ended(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, confirm.ErrReplaced):
		return kv.Errorf(kv.Precondition, "%w", err)
	}
	if copied := (*confirm.Copied)(nil); errors.As(err, &copied) {
		return status.Error(codes.AlreadyExists, copied.Error()) // by the code the slave knows it
	}
	return fmt.Errorf("the stream of confirmations ended: %w", err)
}
