package app

import (
	"testing"

	"google.golang.org/grpc/encoding"
)

// The limits of a node count messages as they arrive: one that is compressed has another size.
// A compressor that anything in the process registers is taken by all of its servers.
func TestNoServerTakesCompressedMessages(t *testing.T) {
	if encoding.GetCompressor("gzip") != nil {
		t.Error("gzip is registered with gRPC")
	}
}
