package attack

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// many is more connections than a node of a test accepts.
const many = 1500

var connections = []Attack{
	{"idle-connections", every, func(ctx context.Context, e *Enemy) { e.hold(ctx, e.GRPC, nil) }},
	{"idle-http-connections", every, func(ctx context.Context, e *Enemy) { e.hold(ctx, e.HTTP, nil) }},
	{"idle-raft-connections", []Kind{Masters}, func(ctx context.Context, e *Enemy) { e.hold(ctx, e.Raft, nil) }},
	{"slow-loris-http", every, func(ctx context.Context, e *Enemy) {
		e.hold(ctx, e.HTTP, []byte("GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"))
	}},
	{"slow-loris-preface", every, func(ctx context.Context, e *Enemy) {
		e.hold(ctx, e.GRPC, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\xff\x01\x05\x00\x00\x00\x00yyyyyyyyy"))
	}},
	{"slow-loris-raft", []Kind{Masters}, func(ctx context.Context, e *Enemy) {
		e.hold(ctx, e.Raft, []byte("\xae\x7d\x00\x64\x00\x00\x00\x00\x00\x0f\xff\xff\xff\xff\xff\xff\xff\xff"))
	}},
	{"busy-connections", wire, func(ctx context.Context, e *Enemy) {
		e.busy(ctx, func(int) string { return host })
	}},
	{"connection-churn", wire, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 8, func(ctx context.Context, _ int) bool {
			conn, err := e.dial(ctx, e.next(e.GRPC), host)
			if err != nil {
				return false
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			e.count("churned", 1)
			return true
		})
	}},
	{"garbage-bytes", every, func(ctx context.Context, e *Enemy) {
		ports := append(append(append([]string{}, e.GRPC...), e.HTTP...), e.Raft...)
		e.often(ctx, 8, func(ctx context.Context, _ int) bool {
			conn, err := e.dial(ctx, e.next(ports), host)
			if err != nil {
				return false
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write(junk(64 << 10))
			_, _ = io.Copy(io.Discard, conn)
			e.count("sent", 1)
			return true
		})
	}},
	{"http-unread", every, func(ctx context.Context, e *Enemy) {
		var all []byte
		for range 200 {
			all = append(all, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"...)
		}
		e.talk(ctx, 100, all)
	}},
	{"http-streams", every, func(ctx context.Context, e *Enemy) {
		e.talk(ctx, 300, []byte("GET /metrics/stream HTTP/1.1\r\nHost: x\r\n\r\n"))
	}},
	{"http-large", every, func(ctx context.Context, e *Enemy) {
		head := fmt.Sprintf("POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\nX-large: %s\r\n\r\n", junkText(700<<10))
		e.talk(ctx, 50, append([]byte(head), junk(1<<20)...))
	}},
}

// junkText is text of n bytes.
func junkText(n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = 'a' + byte(i%26)
	}
	return string(out)
}

// hold opens connections and keeps them, opened again if they are closed. On each of
// them, a byte of drip is sent now and then.
func (e *Enemy) hold(ctx context.Context, to []string, drip []byte) {
	e.often(ctx, many, func(ctx context.Context, _ int) bool {
		conn, err := e.dial(ctx, e.next(to), host)
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			return false
		}
		e.count("opened", 1)
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		go func() {
			for i := range drip {
				sleep(ctx, 300*time.Millisecond)
				if _, err := conn.Write(drip[i : i+1]); err != nil {
					return
				}
			}
		}()
		_, _ = io.Copy(io.Discard, conn)
		if ctx.Err() == nil {
			e.count("closed by the node", 1)
		}
		return false
	})
}

// talk sends the same on many connections, and reads nothing.
func (e *Enemy) talk(ctx context.Context, n int, what []byte) {
	e.often(ctx, n, func(ctx context.Context, _ int) bool {
		conn, err := e.dial(ctx, e.next(e.HTTP), host)
		if err != nil {
			return false
		}
		defer conn.Close()
		e.count("opened", 1)
		_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
		_, _ = conn.Write(what)
		sleep(ctx, 2*time.Second)
		return true
	})
}

// busy opens connections on each of which something is under way, so that none of
// them is idle.
func (e *Enemy) busy(ctx context.Context, from func(i int) string) {
	e.often(ctx, many, func(ctx context.Context, i int) bool {
		c := e.rawFrom(ctx, from(i), 1<<16, true)
		if c == nil {
			sleep(ctx, 200*time.Millisecond)
			return false
		}
		defer c.Close()
		c.Call(healthpb.Health_Watch_FullMethodName, &healthpb.HealthCheckRequest{})
		e.count("opened", 1)
		e.drained(ctx, c)
		return false
	})
}
