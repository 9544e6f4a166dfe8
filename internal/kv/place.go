package kv

import "context"

// Place is what a request holds of the server that serves it: one of the places
// for requests that are under way, or for streams. A context carries it under
// PlaceKey.
type Place interface {
	// Park gives the place of a request that waits to others. If too many wait
	// already, its error says so and nothing is given up.
	Park() error
	// Unpark takes a place again, whether or not there is one.
	Unpark()
	// Resumable says how a stream can be resumed that is ended in the middle,
	// because its reader takes nothing. at is called while a message is being
	// sent, and tells with which request the stream would go on with that message.
	Resumable(at func() Resume)
}

// Resume is where to go on with a stream that was ended in the middle, for the
// metadata of an error: names of a request's fields with their values, binary ones
// in base64 as package encoding/base64's StdEncoding writes it.
type Resume map[string]string

// ReasonStalled is that of the error that ends a stream whose reader takes nothing,
// or which has to make room for others. The ErrorInfo's metadata is a Resume.
const ReasonStalled = "STREAM_STALLED"

// The fields of a Resume.
const (
	// ResumeStartKey is the startKey to go on with an iteration, in base64.
	ResumeStartKey = "startKey"
	// ResumeChange is the fromChangeNumber to go on with changes, in decimal.
	ResumeChange = "fromChangeNumber"
	// ResumeSnapshot and ResumePosition are the snapshotId and the position, the
	// latter in base64, to go on with a snapshot.
	ResumeSnapshot = "snapshotId"
	ResumePosition = "position"
)

// PlaceKey is the context key of a Place.
type PlaceKey struct{}

// PlaceOf returns the context's Place; one that does nothing if it has none.
func PlaceOf(ctx context.Context) Place {
	if p, ok := ctx.Value(PlaceKey{}).(Place); ok {
		return p
	}
	return noPlace{}
}

type noPlace struct{}

func (noPlace) Park() error             { return nil }
func (noPlace) Unpark()                 {}
func (noPlace) Resumable(func() Resume) {}
