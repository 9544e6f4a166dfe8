package admin

import (
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/ops/keys"
)

// keys returns what serves keys over HTTP: what gRPC serves, under the same rules.
func (a *Admin) keys(guard *access.Guard) *keys.Service {
	names := a.Node.Layout.VBuckets
	return keys.New(keys.Options{
		KV:      a.keyService,
		VBucket: func(key []byte) string { return names[kv.VBucketOf(key, len(names))] },
		Allow:   ops.Allow(guard),
	})
}

// keyService is the service of keys, or why there is none.
func (a *Admin) keyService() (serverpb.DKVServer, error) {
	if err := a.starting(); err != nil {
		return nil, err
	}
	if a.Node.Config.Role == config.RoleDiscovery {
		return nil, kv.Errorf(kv.Unimplemented, "%s", role.Elsewhere(a.Role.Name(), serverpb.DKV_ServiceDesc.ServiceName))
	}
	return a.Services().KV, nil
}
