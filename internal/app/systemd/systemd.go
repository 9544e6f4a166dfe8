// Package systemd tells the service manager that has started this process when it is
// ready and when it stops, as sd_notify(3) describes.
package systemd

import (
	"context"
	"log/slog"
	"net"
	"strings"
)

// variable names the socket that the service manager listens on. Processes that no service
// manager has started do not have it.
const variable = "NOTIFY_SOCKET"

// Ready reports that the process is ready, and that it is stopping once ctx ends. env is
// the environment as os.Environ returns it; without a service manager in it, Ready does
// nothing. What cannot be sent is logged: the manager then stops waiting by itself.
func Ready(ctx context.Context, env []string, log *slog.Logger) {
	socket := socketIn(env)
	if socket == "" {
		return
	}
	send(socket, "READY=1", log)
	context.AfterFunc(ctx, func() { send(socket, "STOPPING=1", log) })
}

// socketIn returns the socket that an environment names; "" if it names none.
func socketIn(env []string) string {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, variable+"="); ok {
			return value
		}
	}
	return ""
}

// send sends one datagram. A leading @ stands for Linux's abstract addresses, as in
// package net.
func send(socket, state string, log *slog.Logger) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close() // it was sent or not, whatever this says
	}
	if err != nil {
		log.Warn("the service manager was not told", "state", state, "socket", socket, "error", err)
	}
}
