package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/certs/dial"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/timing"
)

const (
	// protocol is the version of the Bootstrap service.
	protocol = 1
	// callTimeout bounds a call whose context allows more.
	callTimeout = 5 * time.Second
	// maxMessage bounds a message: far more than the largest list of members.
	maxMessage = 4 << 20
)

// protocols are what the port speaks, as ALPN names it.
var protocols = []string{"h2"}

// Client talks to nodes that wait for an invitation. It keeps no connections.
type Client struct {
	dialer *dial.Dialer
}

// NewClient returns a client with a node's certificates; nil means that it has no TLS.
func NewClient(store *certs.Store, log *slog.Logger) *Client {
	return &Client{dialer: dial.New(dial.Options{Store: store, Protocols: protocols, Log: log})}
}

// Hello is what a node that waits at a url says about itself.
type Hello struct {
	// UUID is that of the node's disk.
	UUID string
	// URL is the node's own address by its settings.
	URL string
	// Asked is the url that it was found at.
	Asked string
	// Address is where it will serve gRPC.
	Address string
	Terms   Terms
	// Peers are the first members as the node knows them, in order.
	Peers []string
	// Joining reports whether the node waits to be added to an existing cluster, as
	// opposed to forming one.
	Joining bool
	// wall is the time of the node's wall clock, and then the time here when it was
	// read, give or take half of roundTrip; wall is zero if the node did not say.
	wall, then time.Time
	roundTrip  time.Duration
}

// Wall returns the current time of the node's wall clock, give or take uncertain; told is
// false if the node did not say.
func (h Hello) Wall() (wall time.Time, uncertain time.Duration, told bool) {
	if h.wall.IsZero() {
		return time.Time{}, 0, false
	}
	return h.wall.Add(time.Since(h.then)), h.roundTrip / 2, true
}

// Fits returns an error if the node cannot be a member of a cluster with these terms. It
// wraps ErrUnfit and says what to do.
func (h Hello) Fits(t Terms) error {
	if h.URL != h.Asked {
		return fmt.Errorf("%w: the node at %s has the url %s in its settings: use the same url for it everywhere", ErrUnfit, h.Asked, h.URL)
	}
	return h.Terms.fits(h.Asked, t)
}

// fits compares the terms of the node at url with the cluster's.
func (t Terms) fits(url string, cluster Terms) error {
	for _, c := range []struct{ key, have, want string }{
		{"nexus-cluster-name", t.ClusterName, cluster.ClusterName},
		{"database", t.Database, cluster.Database},
		{"vbuckets", strconv.Itoa(t.VBuckets), strconv.Itoa(cluster.VBuckets)},
	} {
		if c.have != c.want {
			return fmt.Errorf("%w: %s has %s %q, the cluster has %q: start it with the cluster's", ErrUnfit, url, c.key, c.have, c.want)
		}
	}
	if t.VBucket != cluster.VBucket && t.VBucket != "" && cluster.VBucket != "" {
		return fmt.Errorf("%w: %s has vbucket %q, the cluster has %q: start it with the cluster's, on an empty data folder", ErrUnfit, url, t.VBucket, cluster.VBucket)
	}
	mine, ok := major(t.Version)
	theirs, known := major(cluster.Version)
	if ok && known && mine != theirs {
		return fmt.Errorf("%w: %s runs version %s, the cluster %s: install one major version on all nodes", ErrUnfit, url, t.Version, cluster.Version)
	}
	if max(t.Format, 1) < cluster.Format {
		return fmt.Errorf("%w: %s runs version %s, which understands format %d of the log, and the cluster's has format %d: upgrade it",
			ErrUnfit, url, t.Version, max(t.Format, 1), cluster.Format)
	}
	if err := cluster.Timing.Fits(url, t.Timing.Current); err != nil {
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return nil
}

// major returns the major version of a release such as v1.2.3; ok is false for
// a build that is no release.
func major(version string) (n int, ok bool) {
	text, ok := strings.CutPrefix(version, "v")
	if !ok {
		return 0, false
	}
	text, _, ok = strings.Cut(text, ".")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// Invitation says what a waiting node is to become.
type Invitation struct {
	// UUID is that of the node invited, from its Hello.
	UUID       string
	Terms      Terms
	Deployment uint64
	Replica    uint64
	// Members are the first members, replica number to url; empty with Join.
	Members map[uint64]string
	// Join adds the node to an existing cluster.
	Join bool
	// NonVoting starts it without a vote.
	NonVoting bool
	// Addresses are the members' gRPC addresses that the inviter knows.
	Addresses map[uint64]string
}

// Probe asks the node that waits at url about itself. Errors wrap ErrConfig for a
// malformed url, ErrNoAnswer if nothing listens or answers in time, ErrMember if what
// listens does not wait for an invitation, or ErrUnfit if its release speaks another
// protocol.
func (c *Client) Probe(ctx context.Context, url string) (Hello, error) {
	u, err := canonicalURL(url)
	if err != nil {
		return Hello{}, err
	}
	var res *peerpb.HelloResponse
	var begun time.Time
	var roundTrip time.Duration
	err = c.call(ctx, u, func(ctx context.Context, b peerpb.BootstrapClient) (err error) {
		begun = time.Now()
		defer func() { roundTrip = time.Since(begun) }()
		res, err = b.Hello(ctx, &peerpb.HelloRequest{Protocol: protocol})
		return err
	})
	if err != nil {
		return Hello{}, err
	}
	if res.GetProtocol() != protocol || !validUUID(res.GetUuid()) {
		return Hello{}, fmt.Errorf("%w: %s (version %q) speaks bootstrap protocol %d, this node %d: install one version on all nodes",
			ErrUnfit, u, res.GetVersion(), res.GetProtocol(), protocol)
	}
	h := Hello{UUID: res.GetUuid(), URL: res.GetUrl(), Asked: u, Address: res.GetAddress(), Joining: res.GetState() == peerpb.HelloResponse_JOINING, Terms: Terms{
		ClusterName: res.GetClusterName(), Database: res.GetDatabase(), VBuckets: int(res.GetVBuckets()), VBucket: res.GetVBucket(), Version: res.GetVersion(),
		Format: res.GetFormat(), Timing: settingOf([]string{res.GetTiming()}),
	}}
	h.Peers = slices.Sorted(slices.Values(res.GetUrls()))
	if micros := res.GetWallMicros(); micros != 0 {
		h.wall, h.then, h.roundTrip = time.UnixMicro(micros), begun.Add(roundTrip/2), roundTrip
	}
	return h, nil
}

// Invite makes the node at url what inv says. When it returns nil, the node has its
// identity on disk and is about to start Raft. An error wraps ErrDeclined if the node
// declined. After any other error, one of Probe's, the node may have accepted: the same
// invitation may be sent again.
func (c *Client) Invite(ctx context.Context, url string, inv Invitation) error {
	u, err := canonicalURL(url)
	if err != nil {
		return err
	}
	return c.call(ctx, u, func(ctx context.Context, b peerpb.BootstrapClient) error {
		_, err := b.Invite(ctx, &peerpb.Invitation{
			Protocol: protocol, Uuid: inv.UUID, Url: u, ClusterName: inv.Terms.ClusterName, Database: inv.Terms.Database,
			VBuckets: uint32(inv.Terms.VBuckets), Version: inv.Terms.Version, Deployment: inv.Deployment, Replica: inv.Replica,
			Members: inv.Members, Join: inv.Join, NonVoting: inv.NonVoting, Addresses: inv.Addresses,
			Format: inv.Terms.Format, Timings: timingTexts(inv.Terms.Timing), VBucket: inv.Terms.VBucket,
		})
		return err
	})
}

// timingTexts returns a setting in the form that messages have.
func timingTexts(s timing.Setting) []string {
	var out []string
	for _, t := range s.Allowed() {
		out = append(out, t.Text())
	}
	return out
}

// settingOf returns the setting that timingTexts made the texts of; empty if this release
// does not understand them.
func settingOf(texts []string) timing.Setting {
	var s timing.Setting
	for i, t := range []*timing.Timing{&s.Current, &s.Next} {
		if i < len(texts) && t.UnmarshalText([]byte(texts[i])) != nil {
			return timing.Setting{}
		}
	}
	return s
}

// Refuse rejects the node that waits at url to be one of the first members of a cluster;
// it stops with the reason. Errors are those of Invite; a node that waits to join
// declines.
func (c *Client) Refuse(ctx context.Context, url, reason string) error {
	h, err := c.Probe(ctx, url)
	if err != nil {
		return err
	}
	return c.reject(ctx, h, reason)
}

// reject rejects the node that said hello, and no other at its url.
func (c *Client) reject(ctx context.Context, h Hello, reason string) error {
	return c.call(ctx, h.Asked, func(ctx context.Context, b peerpb.BootstrapClient) error {
		_, err := b.Reject(ctx, &peerpb.Rejection{Uuid: h.UUID, Reason: reason})
		return err
	})
}

// Known is a member of a running cluster.
type Known struct {
	Replica uint64
	URL     string
}

// RefuseEmpty rejects, at intervals of every and until ctx ends, the nodes that wait on
// empty disks at the urls of members that have been active before. down returns the
// members to check: those that do not answer. refused, unless nil, is called for each
// node rejected.
func (c *Client) RefuseEmpty(ctx context.Context, every time.Duration, down func() []Known, refused func(Known)) error {
	for periodic.Wait(ctx, every) {
		for _, k := range down() {
			if err := c.Refuse(ctx, k.URL, LostDisk(k.Replica, k.URL)); err == nil && refused != nil {
				refused(k)
			}
		}
	}
	return context.Cause(ctx)
}

// call runs f over a connection of its own to url and says what a failure means. It does
// not use the pool of package peer: the answer is what one single attempt to connect
// shows, that nothing listens, that what listens is not a waiting node, or a node that
// waits; a pool would retry, and keep connections to a port that Raft takes over.
func (c *Client) call(ctx context.Context, url string, f func(context.Context, peerpb.BootstrapClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := c.dialer.Dial(ctx, hostPort(url))
	if err != nil {
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return context.Cause(ctx)
		case errors.Is(err, dial.ErrHandshake) && !errors.Is(err, context.DeadlineExceeded):
			return notWaiting(url, err)
		}
		return fmt.Errorf("%w at %s: %w: is the node started, and the url right?", ErrNoAnswer, url, err)
	}
	defer raw.Close()
	once := make(chan net.Conn, 1)
	once <- raw
	conn, err := grpc.NewClient("passthrough:///"+hostPort(url),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // raw has TLS already
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-once:
				return conn, nil
			default:
				return nil, errors.New("the connection is lost")
			}
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	defer conn.Close()
	return explain(ctx, url, f(ctx, peerpb.NewBootstrapClient(conn)))
}

// notWaiting returns the error of what answers at url, but not as a node that waits.
func notWaiting(url string, cause error) error {
	return fmt.Errorf("%s answers, but not as a node that waits to join (%w): name its Raft address (nexus-node-url), not its gRPC or HTTP address; "+
		"if it is that, it has other TLS settings, or is %w", url, cause, ErrMember)
}

// explain says what a failed call means after TCP had connected.
func explain(ctx context.Context, url string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable, codes.Unimplemented, codes.Internal, codes.Unknown:
		return notWaiting(url, errors.New(s.Message()))
	case codes.DeadlineExceeded, codes.Canceled:
		return fmt.Errorf("%w in time at %s, which accepts connections: is it overloaded, or another program?", ErrNoAnswer, url)
	}
	return fmt.Errorf("%w by %s: %s", ErrDeclined, url, s.Message())
}
