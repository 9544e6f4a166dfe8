package ctl

import "context"

// runner runs a command with its arguments, whose number has been checked.
type runner func(ctx context.Context, s *session, args []string) error

// runners returns what runs each command, by its name.
func runners() map[string]runner {
	return map[string]runner{
		"set":             runSet,
		"get":             runGet,
		"del":             runDelete,
		"mset":            runMultiSet,
		"mget":            runMultiGet,
		"cas":             runCompareAndSet,
		"incr":            runIncrement,
		"iter":            runIterate,
		"keys":            runKeys,
		"watch":           runWatch,
		"addNode":         runAddNode,
		"removeNode":      runRemoveNode,
		"listNodes":       runListNodes,
		"clusterInfo":     runClusterInfo,
		"releaseDatabase": runReleaseDatabase,
		"transferLeader":  runTransferLeader,
		"stepDown":        runStepDown,
		"snapshot":        runSnapshot,
		"setTiming":       runSetTiming,
		"drill":           runDrill,
		"upgrade":         runUpgrade,
		"promote":         runPromote,
		"rejoin":          runRejoin,
		"claim":           runClaim,
		"dropAside":       runDropAside,
		"status":          runStatus,
		"health":          runHealth,
		"top":             runTop,
		"doctor":          runDoctor,
		"verify":          runVerify,
		"pauseWrites":     runPauseWrites,
		"resumeWrites":    runResumeWrites,
		"resetClock":      runResetClock,
		"logLevel":        runLogLevel,
		"resync":          runResync,
		"backup":          runBackup,
		"restore":         runRestore,
		"certs":           runCerts,
		"token":           runToken,
		"bench":           runBench,
		"shell":           runShell,
		"completion":      runCompletion,
		"candidates":      runCandidates,
		"help":            runHelp,
		"version":         runVersion,
	}
}
