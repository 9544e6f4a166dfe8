// Package signals catches the signals that reload a node, or mean nothing to it, from the
// process's first moment on. By default they would end the process, and a script that
// reloads a node may send one while the node is still starting.
//
// They are caught when this package is initialised, before main and, because it imports
// next to nothing, before nearly every other package. SIGINT and SIGTERM are not caught
// here: before there is anything to stop, they should end the process at once.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

var (
	hangups = catch(syscall.SIGHUP)
	unused  = catch(syscall.SIGUSR1, syscall.SIGUSR2)
)

// catch returns a channel with room for one signal: handling the first handles a second
// one that comes before it was received.
func catch(sigs ...os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sigs...)
	return c
}

// Hangups returns the process's SIGHUPs, including those that came before the call.
func Hangups() <-chan os.Signal { return hangups }

// Unused returns the signals that other servers use for something: they must not end this
// one.
func Unused() <-chan os.Signal { return unused }

// IgnorePipes keeps the end of what reads the standard output or error from ending the process. Go
// would end it, without a word, at the next line of the log.
func IgnorePipes() { signal.Ignore(syscall.SIGPIPE) }
