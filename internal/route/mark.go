package route

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// Mark is the metadata key by which a node recognises that another node has forwarded a
// request to it. It serves such a request or rejects it, and never forwards it again.
type Mark string

const (
	// Forwarded marks requests about keys, nodes and the cluster.
	Forwarded Mark = "dkv-forwarded"
	// RegistryForwarded marks requests about the registry, which has an owner of its own.
	// Nodes of every release use this key, so it stays different from Forwarded.
	RegistryForwarded Mark = "dkv-discovery-forwarded"
)

// vBucketKey is the metadata key that names a vBucket that a forwarded request is about. It
// appears once for each vBucket.
const vBucketKey = "dkv-vbucket"

// parentKey is the metadata key of the span that a forwarded request belongs to, as W3C has it.
const parentKey = "traceparent"

// Set returns the context of a forwarded request. It names the caller, whose grants the other
// node checks.
func (m Mark) Set(ctx context.Context) (context.Context, error) {
	caller, err := auth.Vouch(ctx)
	if err != nil {
		return nil, kv.Errorf(kv.Denied, "%w", err)
	}
	return metadata.AppendToOutgoingContext(ctx, append([]string{string(m), "1"}, caller...)...), nil
}

// In reports whether a request was forwarded by another node.
func (m Mark) In(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, string(m))) > 0
}

// forwardedContext returns the context of a forwarded request about some vBuckets.
func forwardedContext(ctx context.Context, vBuckets []VBucket) (context.Context, error) {
	caller, err := auth.Vouch(ctx)
	if err != nil {
		return nil, kv.Errorf(kv.Denied, "%w", err)
	}
	md := make(metadata.MD, 2+len(caller)/2)
	for i := 0; i < len(caller); i += 2 {
		md[caller[i]] = caller[i+1 : i+2]
	}
	md[string(Forwarded)] = []string{"1"}
	if parent := kv.TraceOf(ctx).Onward(); parent != "" {
		md[parentKey] = []string{parent}
	}
	if client := kv.PlaceOf(ctx).Client(); client != (kv.Client{}) {
		md[kv.ClientKey] = []string{string(client.AppendTo(nil))}
	}
	for _, v := range vBuckets {
		md[vBucketKey] = append(md[vBucketKey], v.Name)
	}
	return metadata.NewOutgoingContext(ctx, md), nil
}
