package kv

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
)

// Client is on whose behalf a request is served: the connection that it came by. The
// zero Client is the node itself.
type Client struct {
	Host netip.Addr
	Conn uint64 // of the process's connections, whatever their hosts
}

// ClientKey is the metadata key of a forwarded request that says whose it is: AppendTo's
// text.
const ClientKey = "dkv-client"

// AppendTo appends the client as text, by which a node tells another one whose request it
// forwards: host/number.
func (c Client) AppendTo(b []byte) []byte {
	b = append(c.Host.AppendTo(b), '/')
	return strconv.AppendUint(b, c.Conn, 10)
}

// ParseClient is the inverse of AppendTo. It reports false for any other text.
func ParseClient(text string) (c Client, ok bool) {
	host, number, _ := strings.Cut(text, "/")
	var err error
	if c.Host, err = netip.ParseAddr(host); err != nil {
		return Client{}, false
	}
	if c.Conn, err = strconv.ParseUint(number, 10, 64); err != nil {
		return Client{}, false
	}
	return c, true
}

// Place is the slot that a request occupies in its server, which limits the requests and
// streams that it serves at once. A context carries it under PlaceKey.
type Place interface {
	// Park releases the slot while the request only waits, so that other requests can use
	// it. It fails, and keeps the slot, if too many requests wait already.
	Park() error
	// Unpark takes a slot again, even if all are in use.
	Unpark()
	// Resumable registers how to resume a stream that the server ends because its reader
	// takes no messages. at is called while a message is being sent, and returns the
	// request that would continue the stream with that message.
	Resumable(at func() Resume)
	// Holds says how many bytes the handler of a stream holds beside the messages that it sends
	// from now on.
	Holds(bytes int64)
	// Client is among whom that is shared out which is scarce.
	Client() Client
	// Crowded reports whether the response would have to wait until the client takes others,
	// so that it is too early to read what it is made of; of a stream, the first message.
	// AwaitRoom waits until it is not; its error says which limit is hit.
	Crowded() bool
	AwaitRoom(ctx context.Context) error
}

// Resume says where to resume a stream that was ended early: nothing before it is missing, but
// the message after it may have arrived all the same. It is the metadata of an
// error: the names of a request's fields with their values, binary ones in base64
// (encoding/base64's StdEncoding).
type Resume map[string]string

// ReasonStalled is the reason of the error that ends a stream whose reader takes no
// messages, or that has to make room for other streams. The ErrorInfo's metadata is a
// Resume.
const ReasonStalled = "STREAM_STALLED"

// The fields of a Resume.
const (
	// ResumeStartKey is the startKey that continues an iteration, in base64.
	ResumeStartKey = "startKey"
	// ResumeChange is the fromChangeNumber that continues a stream of changes, in decimal.
	ResumeChange = "fromChangeNumber"
	// ResumeSnapshot and ResumePosition are the snapshotId and the position, the latter in
	// base64, that continue a snapshot.
	ResumeSnapshot = "snapshotId"
	ResumePosition = "position"
)

// PlaceKey is the context key of a Place.
type PlaceKey struct{}

// PlaceOf returns the context's Place, or one that does nothing if there is none.
func PlaceOf(ctx context.Context) Place {
	if p, ok := ctx.Value(PlaceKey{}).(Place); ok {
		return p
	}
	return noPlace{}
}

type noPlace struct{}

func (noPlace) Park() error                     { return nil }
func (noPlace) Unpark()                         {}
func (noPlace) Resumable(func() Resume)         {}
func (noPlace) Holds(int64)                     {}
func (noPlace) Client() Client                  { return Client{} }
func (noPlace) Crowded() bool                   { return false }
func (noPlace) AwaitRoom(context.Context) error { return nil }
