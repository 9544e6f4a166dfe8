// Package signals takes the signals that reload a node, or mean nothing to it, from
// the process's first moment on. By default they would end it, and a script that
// reloads a node may well send one while the node still starts.
//
// It is taken when this package is initialised, before main and, because it imports
// next to nothing, before nearly every other package. SIGINT and SIGTERM are not
// taken here: before there is anything to stop, to end at once is what they ask for.
package signals

import (
	"os"
	"os/signal"
	"syscall"
)

var (
	hangups = take(syscall.SIGHUP)
	unused  = take(syscall.SIGUSR1, syscall.SIGUSR2)
)

// take returns a channel with room for one signal: what a second one asks for is
// done with the first.
func take(sigs ...os.Signal) <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sigs...)
	return c
}

// Hangups returns the process's SIGHUPs, those that came before the call too.
func Hangups() <-chan os.Signal { return hangups }

// Unused returns the signals that other servers do something at: they must not end
// this one.
func Unused() <-chan os.Signal { return unused }
