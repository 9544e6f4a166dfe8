// Package timerslack lets the kernel wake the threads of this process up to a millisecond
// late, if the program imports it.
//
// Go's scheduler sleeps for microseconds at a time wherever it looks for work: its monitoring
// thread for 20 as long as anything runs, an idle one for 3 before it takes what another is
// about to run. With Linux's own slack of 50 us these made a third of all context switches of a
// busy node, and up to a third of its processor time. Nothing in DKV needs a timer that is exact
// to a millisecond: leases, limits and lateness are measured by clocks, whenever a timer wakes.
//
// What can wait longer is a goroutine behind one that holds its processor in a system call,
// such as a sync of a disk: until Go's monitoring thread looks, a millisecond instead of some
// 70 us, unless another processor of the process takes it first, which it does when it is idle.
//
// A slack that the process was started with, such as TimerSlackNSec of systemd, is kept.
package timerslack
