package access

import (
	"testing"
)

func TestAudited(t *testing.T) {
	for method, want := range map[string]bool{
		"/dkv.serverpb.DKV/Put":                  false,
		"/dkv.serverpb.DKV/Get":                  false,
		"/dkv.serverpb.DKVCluster/ListNodes":     false,
		"/dkv.serverpb.DKVNode/GetNodeStatus":    false,
		"/dkv.serverpb.DKVBackupRestore/Backup":  true,
		"/dkv.serverpb.DKVBackupRestore/Restore": true,
		"/dkv.serverpb.DKVCluster/AddNode":       true,
		"/dkv.serverpb.DKVCluster/RemoveNode":    true,
		"/dkv.serverpb.DKVNode/GetContentHash":   true, // it reads everything
		"/dkv.serverpb.DKVNode/PauseWrites":      true,
		"/dkv.serverpb.DKVNode/SetClock":         true,
		"/dkv.serverpb.DKVNode/ResumeWrites":     true,
	} {
		if got := Audited(method); got != want {
			t.Errorf("%s: %v", method, got)
		}
	}
}
