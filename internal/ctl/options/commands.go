package options

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// longTimeout bounds commands that take longer the larger the database is.
	longTimeout = 10 * time.Minute
	// changeTimeout bounds commands that make every vBucket change its leader or
	// members, one after the other.
	changeTimeout = time.Minute
)

// Command describes one command, for the parser, the help and tests.
type Command struct {
	Name     string
	aliases  []string
	group    string
	usage    string   // its arguments
	words    []string // the first argument is one of these; nil if it may be something else
	min, max int      // how many there may be; max < 0 means any number
	Timeout  time.Duration
	// each means that Timeout is that of a request of several, and -timeout, if it is given, that
	// of all of them.
	each    bool
	summary string
	// Hidden keeps a command that this version does not serve out of the help.
	Hidden bool
	// Local commands call no node: neither the environment nor the options of connections
	// matter to them.
	Local bool
}

func (c *Command) synopsis() string {
	return strings.TrimSpace("dkvctl -" + c.Name + " " + c.usage)
}

// takes says how long the command may take, in a sentence; empty for as long as any. option is how
// -timeout is written.
func (c *Command) takes(option string) string {
	switch {
	case c.Timeout == DefaultTimeout:
		return ""
	case c.each:
		return fmt.Sprintf("Each of its requests may take up to %s; %s bounds all of them together.", shortDuration(c.Timeout), option)
	default:
		return fmt.Sprintf("It may take up to %s, unless %s says otherwise.", shortDuration(c.Timeout), option)
	}
}

func (c *Command) counts() string {
	switch {
	case c.max < 0:
		return fmt.Sprintf("%d or more arguments", c.min)
	case c.max == 0:
		return "no argument"
	case c.min == c.max:
		return arguments(c.min)
	default:
		return fmt.Sprintf("%d to %d arguments", c.min, c.max)
	}
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// Commands returns all commands, in the order of the help.
func Commands() []*Command {
	table := slices.Concat(keyCommands(), scanCommands(), clusterCommands(), nodeCommands(), securityCommands(), otherCommands())
	for _, c := range table {
		if c.Timeout == 0 {
			c.Timeout = DefaultTimeout
		}
	}
	return table
}

func keyCommands() []*Command {
	return []*Command{
		{Name: "set", aliases: []string{"s"}, group: groupKeys, usage: "KEY VALUE", min: 2, max: 2,
			summary: "set a key (-ttl DURATION: for a time; -stdin: the value is read from standard input)"},
		{Name: "get", aliases: []string{"g"}, group: groupKeys, usage: "KEY", min: 1, max: 1,
			summary: "print the value; exit code 3 if there is no such key"},
		{Name: "del", aliases: []string{"d"}, group: groupKeys, usage: "KEY", min: 1, max: 1,
			summary: "delete a key; deleting a key that does not exist succeeds"},
		{Name: "mset", group: groupKeys, usage: "KEY VALUE [KEY VALUE ...]", min: 2, max: -1,
			summary: "set several keys at once, all or none"},
		{Name: "mget", group: groupKeys, usage: "KEY ...", min: 1, max: -1,
			summary: "print key => value for each of the keys that exists"},
		{Name: "cas", group: groupKeys, usage: "KEY OLD NEW", min: 3, max: 3,
			summary: `set a key that holds OLD ("": that is absent or empty); exit code 4 if it holds something else`},
		{Name: "incr", group: groupKeys, usage: "KEY [DELTA]", min: 1, max: 2,
			summary: "add DELTA (default 1) to an 8-byte counter and print it"},
	}
}

func scanCommands() []*Command {
	return []*Command{
		{Name: "iter", aliases: []string{"i"}, group: groupKeys, usage: `"*"|PREFIX [START]`, min: 1, max: 2,
			summary: "print key => value in byte order, starting at the key START"},
		{Name: "keys", aliases: []string{"k"}, group: groupKeys, usage: `"*"|PREFIX [START]`, min: 1, max: 2,
			summary: "print keys in byte order"},
		{Name: "watch", group: groupKeys, usage: `["*"|PREFIX]`, min: 0, max: 1,
			summary: "print changes as they come, until interrupted"},
	}
}

func clusterCommands() []*Command {
	return []*Command{
		{Name: "addNode", group: groupCluster, usage: "URL", min: 1, max: 1, Timeout: longTimeout,
			summary: "add the node that waits to join at URL; returns when it has caught up and, unless -nonVoting, votes"},
		{Name: "removeNode", group: groupCluster, usage: "URL", min: 1, max: 1, Timeout: changeTimeout,
			summary: "remove a node; refused if the rest would have no majority (unless -force)"},
		{Name: "listNodes", group: groupCluster, max: 0,
			summary: "list the members: id, Raft URL, status, gRPC address, name, and which have no vote (-v: and timing)"},
		{Name: "clusterInfo", aliases: []string{"getClusterInfo"}, group: groupCluster, usage: "[DC] [DATABASE] [VBUCKET]", max: 3,
			summary: "list which node serves which vBucket, as the discovery registry knows it"},
		{Name: "releaseDatabase", group: groupCluster, usage: "NAME", min: 1, max: 1,
			summary: "take a database from the cluster that holds it in the discovery registry, so that another one may register"},
		{Name: "transferLeader", group: groupCluster, usage: "[URL]", max: 1, Timeout: changeTimeout,
			summary: "make the member at URL, or any other member, the leader; returns when it leads"},
		{Name: "stepDown", group: groupCluster, max: 0, Timeout: changeTimeout,
			summary: "make the node of -a hand over all that it leads"},
		{Name: "snapshot", group: groupCluster, max: 0, Timeout: longTimeout,
			summary: "make the state of the node of -a durable now, and cut its log"},
		{Name: "setTiming", group: groupCluster, usage: "lan|wan|KEY=VALUE[,...]", words: []string{"lan", "wan"}, min: 1, max: 1,
			summary: "allow the members to be restarted with another raft-profile or timing, one after the other; the current one cancels that"},
		{Name: "upgrade", group: groupCluster, usage: "[status|finish]", max: 1, Timeout: changeTimeout,
			summary: "show the version that the cluster uses and what its nodes understand; finish: use the newest, after which no node can be downgraded"},
		{Name: "drill", group: groupCluster, usage: "DRILL", words: []string{"leader-stop", "follower-stop", "slave-switch", "partition", "slow-disk", "registry-stop", "lost-majority-plan"}, min: 1, max: 1,
			summary: "give one node a fault for a while, under load, and compare what clients saw with what is promised; exit code 0 if that holds. lost-majority-plan only prints what would be lost with a majority of the masters at this moment, and the commands to go on with"},
		{Name: "promote", group: groupCluster, max: 0, Timeout: changeTimeout,
			summary: "make the slave of -a the master, or one of the masters with -with: seal the masters, get their last changes and take over (-force: although they cannot be sealed; -abandon: give that up)"},
		{Name: "rejoin", group: groupCluster, usage: "[HOST:PORT]", max: 1, Timeout: longTimeout,
			summary: "make the former master of -a a slave of the one that has replaced it; its data is set aside"},
		{Name: "claim", group: groupCluster, max: 0, Timeout: changeTimeout,
			summary: "give the record in the registry, if it was lost or names others, to the masters of -a; only if no others answer"},
		{Name: "dropAside", group: groupCluster, max: 0, Timeout: longTimeout,
			summary: "delete the data that rejoins of the node of -a have set aside"},
	}
}

func nodeCommands() []*Command {
	return []*Command{
		{Name: "status", group: groupNodes, max: 0,
			summary: "one line a node: all members, and the nodes of -a; exit code 0 only with a majority alive (-v: and the Raft timing, memtables and caches, and the vBuckets that are not well)"},
		{Name: "health", group: groupNodes, max: 0,
			summary: "ask the node of -a alone whether it serves; exit code 0 if it does, also while it rejects writes, which stderr then says"},
		{Name: "top", group: groupNodes, max: 0,
			summary: "show the cluster live: what is wrong now, and each node's requests, latency, lag and disk; q quits (-n N: print N frames and end)"},
		{Name: "doctor", group: groupNodes, max: 0,
			summary: "examine the cluster of -a and its hosts: what is wrong, why it matters, and the command that mends it; exit code 1 for a problem, 0 for warnings (-v: list all checks)"},
		{Name: "verify", group: groupNodes, max: 0, Timeout: longTimeout, each: true,
			summary: "compare the contents of all members and slaves, or of several nodes of -a, at the same index"},
		{Name: "pauseWrites", group: groupNodes, max: 0, summary: "reject writes from now on, also after a restart"},
		{Name: "resumeWrites", group: groupNodes, max: 0, summary: "accept writes again"},
		{Name: "resetClock", group: groupNodes, usage: "[TIME]", max: 1,
			summary: "set the clock that keys expire by, also back, to TIME (2006-01-02T15:04:05Z) or to what a majority's clocks say"},
		{Name: "logLevel", group: groupNodes, usage: "[LEVEL [COMPONENT]]", words: []string{"debug", "info", "warn", "error", "default"}, max: 2,
			summary: "change the level of what the node of -a logs until it is restarted, or that of one component's lines, such as replica/raft (default: take the component's own level away), and print the levels in use"},
		{Name: "resync", group: groupNodes, max: 0,
			summary: "replace the slave's copy with the state of the master that its health names; the copy is kept until the new one is complete"},
		{Name: "backup", group: groupNodes, usage: "PATH", min: 1, max: 1, Timeout: longTimeout,
			summary: "copy the database into a new folder below the server's backup-dir"},
		{Name: "restore", group: groupNodes, usage: "PATH", min: 1, max: 1, Timeout: longTimeout,
			summary: "replace the whole database with a backup of it (-force: or of another database)"},
	}
}

func securityCommands() []*Command {
	return []*Command{
		{Name: "certs", group: groupSecurity, usage: "ACTION [NAME|FILE ...]", words: []string{"init", "node", "client", "rotate", "show"}, min: 1, max: -1, Local: true,
			summary: "make and renew TLS certificates: init, node [HOST ...], client NAME, rotate [FILE ...], rotate ca, show [FILE ...]"},
		{Name: "token", group: groupSecurity, usage: "new NAME|revoke NAME|revoke ID|list", words: []string{"new", "revoke", "list"}, min: 1, max: 2, Local: true,
			summary: "make, revoke and list the access tokens of an auth-file"},
	}
}

func otherCommands() []*Command {
	return []*Command{
		{Name: "bench", group: groupOther, usage: "[OPERATION]", words: benchOperations(), max: 1, summary: "generate load and measure"},
		{Name: "shell", group: groupOther, max: 0,
			summary: "read command lines, with the options given here for each: from a terminal with history and completion of commands and keys, or from a pipe"},
		{Name: "completion", group: groupOther, usage: "SHELL", words: []string{"bash", "zsh", "fish"}, min: 1, max: 1, Local: true,
			summary: "print a script that completes the commands and options of dkvctl in bash, zsh or fish"},
		{Name: "candidates", group: groupOther, usage: "-- [WORD ...]", max: -1, Local: true, Hidden: true,
			summary: "print what the last word may become, for the scripts of -completion"},
		{Name: "help", aliases: []string{"h"}, group: groupOther, usage: "[COMMAND]", max: 1, Local: true, summary: "explain a command, or list them all"},
		{Name: "version", group: groupOther, max: 0, Local: true, summary: "print the version"},
	}
}
