package access

import (
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
)

// What a role must cover, in the words of the documentation.
const (
	theKey      = "the key"
	eachKey     = "each key"
	theRange    = "the range from the prefix, the start and the direction"
	thePrefix   = "the prefix"
	allKeys     = "the whole database"
	theNode     = "the node's database"
	ofTheRow    = "the database of each row; rows of masters need a node"
	ofTheFilter = "the database that is asked for; all if none is, or for a summary"
	released    = "the database that is released"
	ofTheRecord = "the database of the record"
	ofThePath   = "what the row of the path behind the node's name says, on both nodes"
	ofTheKnown  = "on a node of the registry the nodes of the databases that a grant is for"
	nothing     = "-"
)

// grpcRows are the rows of all gRPC methods at the gRPC address. The service at the Raft
// port is guarded by the certificates of nodes; see Elsewhere.
func grpcRows() []Row {
	rows := []Row{
		{Call: serverpb.DKV_Get_FullMethodName, Role: auth.Read, About: theKey, covered: ofKey},
		{Call: serverpb.DKV_MultiGet_FullMethodName, Role: auth.Read, About: eachKey, covered: ofMultiGet},
		{Call: serverpb.DKV_Iterate_FullMethodName, Role: auth.Read, About: theRange, covered: ofIterate},
		{Call: serverpb.DKV_Put_FullMethodName, Role: auth.Write, About: theKey, covered: ofKey},
		{Call: serverpb.DKV_MultiPut_FullMethodName, Role: auth.Write, About: eachKey, covered: ofMultiPut},
		{Call: serverpb.DKV_Delete_FullMethodName, Role: auth.Write, About: theKey, covered: ofKey},
		{Call: serverpb.DKV_CompareAndSet_FullMethodName, Role: auth.Write, About: theKey, covered: ofKey},
		{Call: serverpb.DKV_Increment_FullMethodName, Role: auth.Write, About: theKey, covered: ofKey},

		{Call: serverpb.DKVReplication_WatchChanges_FullMethodName, Role: auth.Watch, About: thePrefix, covered: ofWatch},
		whole(serverpb.DKVReplication_GetChanges_FullMethodName, auth.Replication),
		whole(serverpb.DKVReplication_StreamChanges_FullMethodName, auth.Replication),
		whole(serverpb.DKVReplication_StreamSnapshot_FullMethodName, auth.Replication),
		whole(serverpb.DKVReplication_AddReplica_FullMethodName, auth.Replication),
		whole(serverpb.DKVReplication_RemoveReplica_FullMethodName, auth.Replication),
		whole(serverpb.DKVReplication_GetReplicas_FullMethodName, auth.Replication),
		whole(peerpb.Standby_Confirm_FullMethodName, auth.Replication),
		whole(peerpb.Standby_GetHistories_FullMethodName, auth.Replication),
		whole(peerpb.Standby_GetStanding_FullMethodName, auth.Replication),
		whole(peerpb.Standby_AwaitApplied_FullMethodName, auth.Replication),
		// It says nothing about single keys, but reads them all, as an iteration does.
		whole(serverpb.DKVNode_GetContentHash_FullMethodName, auth.Read),

		{Call: serverpb.DKVDiscovery_UpdateStatus_FullMethodName, Role: auth.Replication, About: ofTheRow, named: true, covered: ofRows},
		{Call: serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, Role: Any, About: ofTheFilter, named: true, covered: ofLookup},
		{Call: serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, Role: Any, About: ofTheFilter, named: true, covered: ofLookup},
		{Call: serverpb.DKVDiscovery_ReleaseDatabase_FullMethodName, Role: auth.Admin, About: released, named: true, covered: ofRelease},

		{Call: peerpb.Witness_GetRecord_FullMethodName, Role: Any, About: ofTheRecord, named: true, covered: ofGetRecord},
		{Call: peerpb.Witness_Renew_FullMethodName, Role: auth.Replication, About: ofTheRecord, named: true, covered: ofRecord},
		{Call: peerpb.Witness_ChangeRecord_FullMethodName, Role: auth.Replication, About: ofTheRecord, named: true, covered: ofChange},
		{Call: peerpb.Witness_Claim_FullMethodName, Role: auth.Replication, About: ofTheRecord, named: true, covered: ofRecord},

		{Call: serverpb.DKVNode_GetNodeStatus_FullMethodName, Role: Any, About: nothing},
		{Call: serverpb.DKVDiscoveryNode_GetStatus_FullMethodName, Role: Any, About: nothing},
		{Call: serverpb.DKVCluster_ListNodes_FullMethodName, Role: Any, About: nothing},

		{Call: peerpb.Members_Meet_FullMethodName, Role: auth.Node, About: nothing},
		{Call: peerpb.Members_Time_FullMethodName, Role: auth.Node, About: nothing},
		// Each call in it is checked as one of its own is.
		{Call: peerpb.Forwarding_Forward_FullMethodName, Role: auth.Node, About: nothing},

		{Call: grpc_health_v1.Health_Check_FullMethodName, Role: Everyone, About: nothing},
		{Call: grpc_health_v1.Health_List_FullMethodName, Role: Everyone, About: nothing},
		{Call: grpc_health_v1.Health_Watch_FullMethodName, Role: Everyone, About: nothing},

		{Call: reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName, Role: Any, About: nothing, Local: true},
		{Call: reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName, Role: Any, About: nothing, Local: true},
	}
	for _, call := range []string{
		serverpb.DKVBackupRestore_Backup_FullMethodName,
		serverpb.DKVBackupRestore_Restore_FullMethodName,
		serverpb.DKVCluster_AddNode_FullMethodName,
		serverpb.DKVCluster_RemoveNode_FullMethodName,
		serverpb.DKVCluster_TransferLeader_FullMethodName,
		serverpb.DKVCluster_StepDown_FullMethodName,
		serverpb.DKVCluster_Snapshot_FullMethodName,
		serverpb.DKVNode_PauseWrites_FullMethodName,
		serverpb.DKVNode_ResumeWrites_FullMethodName,
		serverpb.DKVNode_SetClock_FullMethodName,
		serverpb.DKVNode_SetTiming_FullMethodName,
		serverpb.DKVNode_FinishUpgrade_FullMethodName,
		serverpb.DKVNode_SetLogLevel_FullMethodName,
		serverpb.DKVNode_InjectFault_FullMethodName,
		serverpb.DKVNode_Resync_FullMethodName,
		serverpb.DKVNode_CancelResync_FullMethodName,
		serverpb.DKVNode_Promote_FullMethodName,
		serverpb.DKVNode_Rejoin_FullMethodName,
		serverpb.DKVNode_DropAside_FullMethodName,
		serverpb.DKVNode_ClaimRecord_FullMethodName,
		// A slave makes these calls, for an administrator. A master that is told to yield
		// believes what the node that is named says of its history.
		peerpb.Standby_SealDatabase_FullMethodName,
		peerpb.Standby_StopDatabase_FullMethodName,
		peerpb.Standby_Yield_FullMethodName,
		peerpb.Standby_SealCopies_FullMethodName,
		peerpb.Standby_CatchUpCopy_FullMethodName,
		peerpb.Standby_TakeRequests_FullMethodName,
		peerpb.Standby_GetRequests_FullMethodName,
		peerpb.Standby_BecomeMaster_FullMethodName,
	} {
		rows = append(rows, administrative(call))
	}
	return rows
}

// httpRows are the rows of all paths of the HTTP server.
func httpRows() []Row {
	rows := []Row{
		{Call: "/livez", Role: Everyone, About: nothing},
		{Call: "/readyz", Role: Everyone, About: nothing},
		{Call: "/health/quick", Role: Everyone, About: nothing},
		// The console's page is the same on every node. What it shows has rows of its own.
		{Call: "/", Role: Everyone, About: nothing},
		{Call: "/console/", Role: Everyone, About: nothing},
		{Call: "/admin/nodes/", Role: Any, About: ofThePath},
		// Runtime variables hold the command line, profiles the memory of requests.
		local("/debug/vars"),
		local("/debug/pprof/"),
	}
	rows = append(rows,
		Row{Call: "/data/get", Role: auth.Read, About: theKey, covered: ofKey},
		Row{Call: "/data/list", Role: auth.Read, About: theRange, covered: ofIterate},
		Row{Call: "/data/put", Role: auth.Write, About: theKey, covered: ofKey},
		Row{Call: "/data/cas", Role: auth.Write, About: theKey, covered: ofKey},
		Row{Call: "/data/delete", Role: auth.Write, About: theKey, covered: ofKey},
	)
	for _, path := range []string{
		"/paths", "/health", "/metrics", "/metrics/json", "/metrics/stream",
		"/admin/cluster/status", "/admin/raft/state", "/admin/replication/lag",
	} {
		rows = append(rows, Row{Call: path, Role: Any, About: nothing})
	}
	for _, path := range []string{"/metrics/cluster", "/admin/nodes", "/admin/nodes/stream"} {
		rows = append(rows, Row{Call: path, Role: Any, About: ofTheKnown})
	}
	for _, path := range []string{
		"/admin/log", "/admin/pause-writes", "/admin/resume-writes", "/admin/reset-clock", "/admin/backup", "/admin/backups", "/admin/restore", "/admin/promote", "/admin/resync", "/admin/cancel-resync",
		"/admin/cluster/add", "/admin/cluster/remove", "/admin/cluster/transfer-leadership",
		"/admin/raft/step-down", "/admin/raft/snapshot",
		"/admin/log-level",
		"/admin/node", // names files and shows the configuration
	} {
		rows = append(rows, administrative(path))
	}
	return rows
}

// Elsewhere are the gRPC methods that are not at the gRPC address: bootstrap's, on the Raft
// port, which accepts the certificates of nodes only.
func Elsewhere() []string {
	return []string{
		peerpb.Bootstrap_Hello_FullMethodName,
		peerpb.Bootstrap_Invite_FullMethodName,
		peerpb.Bootstrap_Reject_FullMethodName,
	}
}

// whole is the row of a call about a whole database.
func whole(call string, role auth.Role) Row {
	return Row{Call: call, Role: role, About: allKeys, whole: true}
}

func administrative(call string) Row {
	return Row{Call: call, Role: auth.Admin, About: theNode, whole: true}
}

func local(call string) Row {
	r := administrative(call)
	r.Local = true
	return r
}

// methods and paths are the table by call.
var methods, paths = byCall(grpcRows()), byCall(httpRows())

func byCall(rows []Row) map[string]*Row {
	out := make(map[string]*Row, len(rows))
	for i := range rows {
		out[rows[i].Call] = &rows[i]
	}
	return out
}

// Methods returns the rows of gRPC.
func Methods() []Row { return grpcRows() }

// Paths returns the rows of HTTP.
func Paths() []Row { return httpRows() }

// unknown is the row of calls that do not exist: only a caller with any right is told so.
var unknown = Row{Call: "unknown", Role: Any, About: nothing}

// Unknown returns the row of calls that do not exist.
func Unknown() *Row { return &unknown }

// Method returns the row of a gRPC method, by its full name; nil if there is none.
func Method(full string) *Row { return methods[full] }

// Path returns the row of a path of HTTP; nil if there is none.
func Path(path string) *Row {
	if r := paths[path]; r != nil {
		return r
	}
	for end := len(path) - 1; end > 0; end-- { // the longest path above it; / has none below
		if path[end] != '/' {
			continue
		}
		if r := paths[path[:end+1]]; r != nil {
			return r
		}
	}
	return nil
}
