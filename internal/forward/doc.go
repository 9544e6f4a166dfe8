// Package forward carries the calls that a node forwards to another one for many callers
// over one stream between them: a Line is the end that sends calls, Serve the end that
// answers them. The stream's messages are those of the service Forwarding in api/peer.proto.
// It knows neither connections nor services: package peer opens the stream, and package
// server serves the calls. DESIGN.md says what it saves and what it must not change.
package forward
