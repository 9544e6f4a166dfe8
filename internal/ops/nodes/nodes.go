// Package nodes lets one node's HTTP server answer for all nodes that work with it: what each
// of them says of its health, and any of its paths. Each is asked with the credentials of the
// caller, and decides itself what the caller may do; see internal/console/DESIGN.md.
package nodes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/fair"
	"github.com/dkvdb/dkv/internal/kv"
)

// Node is a node as the node that is asked knows it.
type Node struct {
	Name string `json:"name"`
	// ID is the member's id in its Raft cluster; empty for a node that is in none.
	ID string `json:"id,omitempty"`
	// Role is standalone, master, slave or discovery.
	Role     string `json:"role"`
	Database string `json:"database,omitempty"`
	Zone     string `json:"zone"`
	// Address and HTTP are where it serves gRPC and HTTP, host:port; URL is its Raft address,
	// as commands take it.
	Address string `json:"address"`
	HTTP    string `json:"http_address"`
	URL     string `json:"node_url,omitempty"`
	Voting  bool   `json:"voting"`
	// Self: it is the node that answers.
	Self bool `json:"self"`
}

// State is a node with what it answers.
type State struct {
	Node
	// Answers reports whether it answered at all, and Error why Health is missing.
	Answers bool            `json:"answers"`
	Error   string          `json:"error,omitempty"`
	Health  json.RawMessage `json:"health,omitempty"`
}

// Document is what GET /admin/nodes answers.
type Document struct {
	// Node is the name of the node that answers.
	Node     string    `json:"node"`
	Database string    `json:"database"`
	Cluster  string    `json:"cluster_id"`
	Time     time.Time `json:"time"`
	Nodes    []State   `json:"nodes"`
}

// Options say what a Service knows.
type Options struct {
	// List returns the nodes, this one first.
	List func(context.Context) []Node
	// Cluster is the id of the cluster; empty while it is not known.
	Cluster func() string
	// Dial connects to another node without showing who this one is: a certificate of a node
	// would lend its rights to the caller.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Bounds of what is asked of other nodes.
const (
	// healthTimeout is less than the interval of the stream, so that a node which does not
	// answer shows within two seconds.
	healthTimeout = 900 * time.Millisecond
	// maxHealth bounds a node's health document: 65536 vBuckets of 400 bytes are within it.
	maxHealth = 32 << 20
	// maxSurvey bounds those of all nodes together, since the registry's rows name any address:
	// seven nodes with as much each as they may have, or a thousand with 500 vBuckets each. What
	// does not fit is left out.
	maxSurvey = 7 * maxHealth
	// idleConnections are kept open to each node, and mostIdle to all.
	idleConnections, mostIdle = 2, 32
	// askedAtOnce bounds the nodes that are asked at the same time for all surveys: the registry's
	// rows name any number of them, and each takes a file descriptor, of which storage needs some.
	askedAtOnce = 32
	// askPatience is how long a survey waits for its turn to ask a node.
	askPatience = 3 * time.Second
)

// Service asks nodes.
type Service struct {
	options   Options
	transport *http.Transport
	// local serves the node's own paths.
	local http.Handler
	// asking shares out the places of askedAtOnce among those who ask.
	asking *fair.Gate

	readTimeout, lookInterval time.Duration
}

// New returns a Service. Bind completes it.
func New(o Options) *Service {
	return &Service{options: o, asking: fair.New(askedAtOnce), readTimeout: readTimeout, lookInterval: lookInterval, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			// The transport would go on with it after the request has ended, for a later one.
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if request, is := ctx.Value(requestKey{}).(context.Context); is {
				defer context.AfterFunc(request, cancel)()
			}
			conn, err := o.Dial(ctx, address)
			if err != nil {
				return nil, &notSent{err}
			}
			return conn, nil
		},
		MaxIdleConns:        mostIdle,
		MaxIdleConnsPerHost: idleConnections,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}}
}

// requestKey is the key of a request's own context, in that of the connection which is opened for it.
type requestKey struct{}

// Bind has the service answer for its own node with a handler.
func (s *Service) Bind(local http.Handler) { s.local = local }

// Close closes the connections that are not in use.
func (s *Service) Close() { s.transport.CloseIdleConnections() }

// Survey asks all nodes for their health, with the credentials of a request. If they are many it
// asks the first ones first, and the hosts that ask take turns.
func (s *Service) Survey(r *http.Request) *Document {
	list := s.options.List(r.Context())
	out := &Document{Cluster: s.options.Cluster(), Time: time.Now().UTC(), Nodes: make([]State, len(list))}
	var asking sync.WaitGroup
	free := &room{left: maxSurvey}
	waiting, cancel := context.WithTimeout(r.Context(), askPatience)
	defer cancel()
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // no address is a host like others
	client := kv.Client{Host: conns.HostOf(from.Addr())}
	for i, n := range list {
		if n.Self {
			out.Node, out.Database = n.Name, n.Database
		} else if s.asking.Enter(waiting, client) != nil {
			out.Nodes[i] = State{Node: n, Error: fmt.Sprintf("it was not asked within %v: too many nodes before it do not answer", askPatience)}
			continue
		}
		asking.Go(func() {
			if !n.Self {
				defer s.asking.Leave()
			}
			out.Nodes[i] = s.ask(r, n, free)
		})
	}
	asking.Wait()
	return out
}

// ask asks a node for its health, and takes room for what it answers.
func (s *Service) ask(r *http.Request, n Node, free *room) State {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	out := State{Node: n}
	status, body, err := s.fetch(ctx, r, n, "/health", free)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		out.Error = fmt.Sprintf("it does not answer within %v", healthTimeout)
	case err != nil:
		out.Error = unreachable(n, err)
	case (status == http.StatusOK || status == http.StatusServiceUnavailable && errorIn(body) == "") && json.Valid(body):
		out.Answers, out.Health = true, body
	case status == http.StatusOK: // it must not make the whole document invalid
		out.Answers, out.Error = true, "it answers with something else than its health"
	default:
		out.Answers, out.Error = true, refusal(status, body)
	}
	return out
}

// unreachable says why a node could not be asked.
func unreachable(n Node, err error) string {
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) && errors.As(err, &call) {
		return fmt.Sprintf("no connection to its HTTP address %s: %v", n.HTTP, call.Err)
	}
	return err.Error()
}

// fetch reads a path of a node, as far as there is room.
func (s *Service) fetch(ctx context.Context, r *http.Request, n Node, path string, free *room) (int, []byte, error) {
	if n.Self {
		w := new(recorder)
		s.local.ServeHTTP(w, outgoing(ctx, r, http.MethodGet, n, path))
		return w.status, w.body, nil
	}
	if n.HTTP == "" {
		return 0, nil, errors.New("its HTTP address is not known yet")
	}
	answer, err := s.transport.RoundTrip(outgoing(ctx, r, http.MethodGet, n, path))
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(&within{Reader: answer.Body, free: free})
	return answer.StatusCode, body, err
}

// room is what the answers of all nodes share.
type room struct {
	mu   sync.Mutex
	left int
}

// within reads one answer as long as it is short enough and there is room.
type within struct {
	io.Reader
	free  *room
	taken int
}

var (
	errTooLong = fmt.Errorf("its answer is left out: it has more than %d MiB", maxHealth>>20)
	errNoRoom  = fmt.Errorf("its answer is left out: those of all nodes have more than %d MiB", maxSurvey>>20)
)

// Read implements io.Reader. An answer that is left out gives its room back at once, so that
// those of other nodes fit.
func (w *within) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.free.mu.Lock()
	defer w.free.mu.Unlock()
	w.free.left -= n
	w.taken += n
	failure := err
	switch {
	case w.taken > maxHealth:
		failure = errTooLong
	case w.free.left < 0:
		failure = errNoRoom
	case err == nil || err == io.EOF:
		return n, err
	}
	w.free.left += w.taken
	w.taken = 0
	return 0, failure
}

// refusal is the reason in an answer that is an error.
func refusal(status int, body []byte) string {
	return cmp.Or(errorIn(body), fmt.Sprintf("it answers with HTTP status %d", status))
}

// errorIn returns the error that a node answers with instead of a document: also one that is too
// busy answers 503, as one does that is not healthy. It is empty if there is none.
func errorIn(body []byte) string {
	var document struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &document) // other bodies have none
	return document.Error
}

// find returns the node with a name or an HTTP address.
func (s *Service) find(ctx context.Context, name string) (Node, bool) {
	list := s.options.List(ctx)
	i := slices.IndexFunc(list, func(n Node) bool { return n.HTTP == name })
	if i < 0 {
		i = slices.IndexFunc(list, func(n Node) bool { return n.Name == name })
	}
	if i < 0 {
		return Node{}, false
	}
	return list[i], true
}

// names lists nodes for an error.
func (s *Service) names(ctx context.Context) string {
	var out []string
	for _, n := range s.options.List(ctx) {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

// recorder keeps the answer of this node's own handler.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (w *recorder) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.body = append(w.body, p...)
	return len(p), nil
}
