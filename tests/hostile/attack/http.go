package attack

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// overHTTP are attacks on the calls for keys, the console and what lets one node answer for others.
var overHTTP = []Attack{
	{"http-slow-bodies", data, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 200, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) {
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\n\r\n", keyPaths[rand.IntN(len(keyPaths))], conn.RemoteAddr())
				for ctx.Err() == nil {
					if _, err := conn.Write([]byte{' '}); err != nil {
						return
					}
					sleep(ctx, 200*time.Millisecond)
				}
			})
		})
	}},
	{"http-endless-bodies", data, func(ctx context.Context, e *Enemy) {
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, junkText(64<<10))
		e.often(ctx, 50, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) {
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n", keyPaths[rand.IntN(len(keyPaths))], conn.RemoteAddr())
				for {
					if _, err := conn.Write([]byte(chunk)); err != nil {
						return
					}
				}
			})
		})
	}},
	{"http-unread-values", data, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 200, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) {
				for range 5 {
					fmt.Fprintf(conn, "GET /data/get?level=sequential&key=%s HTTP/1.1\r\nHost: %s\r\n\r\n", url.QueryEscape(string(Large)), conn.RemoteAddr())
				}
				sleep(ctx, 5*time.Second)
			})
		})
	}},
	{"http-unread-surveys", every, func(ctx context.Context, e *Enemy) {
		paths := []string{"/admin/nodes", "/admin/nodes/stream", "/metrics/json", "/health", "/admin/cluster/status", "/console/app.js"}
		e.often(ctx, 200, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) {
				for range 50 {
					fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[rand.IntN(len(paths))])
				}
				sleep(ctx, 3*time.Second)
			})
		})
	}},
	{"http-strange-requests", every, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) { e.ask(conn, strangeRequest()) })
		})
	}},
	{"http-strange-keys", data, func(ctx context.Context, e *Enemy) {
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			return e.exchange(ctx, func(conn net.Conn) { e.ask(conn, strangeKey(conn.RemoteAddr().String())) })
		})
	}},
}

// keyPaths are those that take a body, also by way of another node's name.
var keyPaths = []string{"/data/put", "/data/cas", "/data/delete", "/admin/nodes/alone/data/put", "/admin/nodes/master1/data/put", "/admin/nodes/slave/data/cas"}

// exchange has f speak over a connection of its own, which is closed when ctx ends.
func (e *Enemy) exchange(ctx context.Context, f func(net.Conn)) bool {
	conn, err := e.dial(ctx, e.next(e.HTTP), host)
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	e.count("opened", 1)
	f(conn)
	return true
}

// ask sends a request, and counts its answer. None may be an error of the node itself.
func (e *Enemy) ask(conn net.Conn, request string) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		return
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		e.count("no answer", 1)
		return
	}
	defer answer.Body.Close()
	e.count(fmt.Sprint(answer.StatusCode), 1)
	if answer.StatusCode == http.StatusInternalServerError {
		e.count(fmt.Sprintf("%s%s to %.200q", Bug, answer.Status, request), 1)
	}
}

// strangeRequest is a request that no client makes: to paths that lead elsewhere, with headers that
// contradict each other, or in another protocol.
func strangeRequest() string {
	pick := func(of ...string) string { return of[rand.IntN(len(of))] }
	method := pick("GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PUT", "PRI", junkText(100))
	path := pick("/", "//", "/..", "/../../etc/passwd", "/console/../../x", "/console/%2e%2e/%2e%2e/x", "/console/", "/admin/nodes/", "/admin/nodes/x//",
		"/admin/nodes/127.0.0.1:1/health", "/admin/nodes/169.254.169.254:80/health", "/admin/nodes/%00/health", "/admin/nodes/alone/debug/vars",
		"/admin/nodes/alone"+strings.Repeat("/admin/nodes/alone", 500)+"/health", "/metrics?name[]=x", "/metrics/json?"+strings.Repeat("name=x&", 3000),
		"/health?"+junkText(20_000), "/%zz", "*", "http://169.254.169.254/health", "/data/list?limit=-1", "/admin/log?limit=99999999999",
		"/\xff\xfe", "/paths#x", "/livez?verbose")
	headers := pick("", "Range: bytes="+strings.Repeat("0-,", 5000)+"1-\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: -1\r\n",
		"Content-Length: 1\r\nContent-Length: 2\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Content-Encoding: gzip\r\nContent-Length: 4\r\n", "Expect: 100-continue\r\nContent-Length: 10\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
		"Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "Authorization: Bearer "+junkText(8000)+"\r\n", "Traceparent: 00-"+junkText(60)+"\r\n",
		"Accept-Encoding: zstd, br, gzip;q=9\r\n", strings.Repeat("X: y\r\n", 3000), "If-None-Match: "+strings.Repeat(`"x",`, 5000)+"\r\n")
	version := pick("1.1", "1.1", "1.1", "1.0", "2.0", "9.9")
	return fmt.Sprintf("%s %s HTTP/%s\r\nHost: %s\r\n%sConnection: close\r\n\r\n%s", method, path, version, pick("x", "127.0.0.1", "evil.example", ""), headers, pick("", "{}", "0\r\n\r\n", string(junk(100))))
}

// strangeKey is a call for keys with a key, a value or a body that is refused, or should be.
func strangeKey(at string) string {
	key := oddKey()
	if rand.IntN(2) == 0 {
		q := url.Values{
			"key": {base64.StdEncoding.EncodeToString(key)}, "prefix": {base64.StdEncoding.EncodeToString(key)}, "start": {string(oddKey())},
			"encoding": {[]string{"base64", "hex", "text", "", "rot13"}[rand.IntN(5)]}, "limit": {[]string{"", "0", "1", "500", "-1", "1e9", "99999999999999999999"}[rand.IntN(7)]},
			"level": {[]string{"", "linearizable", "sequential", "x"}[rand.IntN(4)]},
		}
		return fmt.Sprintf("GET /data/%s?%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", []string{"get", "list"}[rand.IntN(2)], q.Encode(), at)
	}
	body, err := json.Marshal(map[string]any{
		"key": base64.StdEncoding.EncodeToString(key), "value": base64.StdEncoding.EncodeToString(junk(rand.IntN(100))), "old": "", "encoding": "base64",
		"expires": rand.Uint64(), "ack": []string{"", "async", "sync", "all", "x"}[rand.IntN(5)],
	})
	if err != nil {
		panic(err) // of values that JSON has
	}
	text := string(body)
	switch rand.IntN(6) {
	case 0:
		text = strings.Repeat("[", 100_000)
	case 1:
		text = strings.Repeat(`{"key":`, 50_000)
	case 2:
		text = string(junk(1000))
	case 3:
		text = `{"key":"` + strings.Repeat(`\u0000`, 10_000) + `"}`
	}
	return fmt.Sprintf("POST /data/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", []string{"put", "cas", "delete"}[rand.IntN(3)], at, len(text), text)
}
