package access

import (
	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// Audited reports whether a gRPC method, by its full name, is an administrative call that is
// logged whether it succeeds or fails.
func Audited(method string) bool {
	switch method {
	case serverpb.DKVBackupRestore_Backup_FullMethodName,
		serverpb.DKVBackupRestore_Restore_FullMethodName,
		serverpb.DKVCluster_AddNode_FullMethodName,
		serverpb.DKVCluster_RemoveNode_FullMethodName,
		serverpb.DKVCluster_TransferLeader_FullMethodName,
		serverpb.DKVCluster_StepDown_FullMethodName,
		serverpb.DKVCluster_Snapshot_FullMethodName,
		serverpb.DKVReplication_AddReplica_FullMethodName,
		serverpb.DKVReplication_RemoveReplica_FullMethodName,
		serverpb.DKVDiscovery_ReleaseDatabase_FullMethodName,
		serverpb.DKVNode_GetContentHash_FullMethodName,
		serverpb.DKVNode_PauseWrites_FullMethodName,
		serverpb.DKVNode_SetClock_FullMethodName,
		serverpb.DKVNode_Resync_FullMethodName,
		serverpb.DKVNode_CancelResync_FullMethodName,
		serverpb.DKVNode_SetTiming_FullMethodName,
		serverpb.DKVNode_FinishUpgrade_FullMethodName,
		serverpb.DKVNode_SetLogLevel_FullMethodName,
		serverpb.DKVNode_InjectFault_FullMethodName,
		serverpb.DKVNode_Promote_FullMethodName,
		serverpb.DKVNode_Rejoin_FullMethodName,
		serverpb.DKVNode_DropAside_FullMethodName,
		serverpb.DKVNode_ClaimRecord_FullMethodName,
		peerpb.Standby_SealDatabase_FullMethodName,
		peerpb.Standby_StopDatabase_FullMethodName,
		peerpb.Standby_Yield_FullMethodName,
		peerpb.Standby_SealCopies_FullMethodName,
		peerpb.Standby_CatchUpCopy_FullMethodName,
		peerpb.Standby_GetRequests_FullMethodName,
		peerpb.Standby_TakeRequests_FullMethodName,
		peerpb.Standby_BecomeMaster_FullMethodName,
		serverpb.DKVNode_ResumeWrites_FullMethodName:
		return true
	default:
		return false
	}
}
