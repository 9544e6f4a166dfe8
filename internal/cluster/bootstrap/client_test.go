package bootstrap

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestNobodyWaits asks at ports where no node waits.
func TestNobodyWaits(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for _, c := range []struct {
		name string
		conn func(net.Conn)
		want error
	}{
		{"nothing listens", nil, ErrNoAnswer},
		{"runs Raft", likeRaft, ErrMember},
		{"hangs up", func(net.Conn) {}, ErrMember},
		{"garbage", func(c net.Conn) { _, _ = c.Write([]byte(strings.Repeat("garbage ", 100))) }, ErrMember},
		{"HTTP/1", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") }, ErrMember},
		{"silent", func(net.Conn) { <-release }, ErrNoAnswer},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := reserve(t, 1)[0]
			if c.conn != nil {
				l, err := net.Listen("tcp", hostPort(url))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go func() {
					for {
						conn, err := l.Accept()
						if err != nil {
							return
						}
						go func() {
							defer conn.Close()
							c.conn(conn)
						}()
					}
				}()
			}
			for what, call := range map[string]func(context.Context) error{
				"Probe":  func(ctx context.Context) error { _, err := testClient(t).Probe(ctx, url); return err },
				"Invite": func(ctx context.Context) error { return testClient(t).Invite(ctx, url, Invitation{}) },
				"Refuse": func(ctx context.Context) error { return testClient(t).Refuse(ctx, url, "x") },
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				if err := call(ctx); !errors.Is(err, c.want) || !strings.Contains(err.Error(), url) {
					t.Errorf("%s: %v", what, err)
				}
				cancel()
			}
		})
	}
}

func TestProbeCancelled(t *testing.T) {
	url := reserve(t, 1)[0]
	called := make(chan struct{}, 8)
	release := make(chan struct{})
	serve(t, url, func(net.Conn) { called <- struct{}{}; <-release })
	defer close(release)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-called
		cancel(cause)
	}()
	if _, err := testClient(t).Probe(ctx, url); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if _, err := testClient(t).Probe(ctx, url); !errors.Is(err, cause) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestMalformedURLs(t *testing.T) {
	c := testClient(t)
	_, probed := c.Probe(t.Context(), "nowhere")
	for what, err := range map[string]error{
		"Probe": probed, "Invite": c.Invite(t.Context(), "nowhere", Invitation{}), "Refuse": c.Refuse(t.Context(), "nowhere", ""),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestVersionsFit(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"v1.2.3", "v1.9.0", true}, {"v1.2.3-4-gabc", "v1.0.0", true}, {"v1.2.3", "v2.0.0", false}, {"v10.0.0", "v1.0.0", false},
		{"devel", "v2.0.0", true}, {"0a1b2c3-dirty", "v2.0.0", true}, {"", "v2.0.0", true}, {"v2", "v3.0.0", true}, {"vx.1", "v3.0.0", true},
	} {
		for _, swap := range []bool{false, true} {
			mine, cluster := testTerms, testTerms
			mine.Version, cluster.Version = c.a, c.b
			if swap {
				mine, cluster = cluster, mine
			}
			err := Hello{URL: urlA, Asked: urlA, Terms: mine}.Fits(cluster)
			if (err == nil) != c.want || err != nil && !errors.Is(err, ErrUnfit) {
				t.Errorf("%q in a cluster of %q: %v", mine.Version, cluster.Version, err)
			}
		}
	}
}
