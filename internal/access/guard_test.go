package access_test

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/access/accesstest"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// by are the credentials of a token.
func by(token string) *access.Caller {
	c := &access.Caller{Credentials: auth.Credentials{Host: netip.MustParseAddr("192.0.2.1")}}
	if token != "" {
		c.Authorization = "Bearer " + token
	}
	return c
}

// guarded returns the guard of database "db", and who its identities are.
func guarded(grants map[string][]auth.Grant) (*access.Guard, *accesstest.Authenticator) {
	a := accesstest.New()
	for name, g := range grants {
		a.Grant(name, g...)
	}
	return access.NewGuard(access.Options{Authenticator: a, Database: "db"}), a
}

// try makes a call as a server does.
func try(g *access.Guard, c *access.Caller, method string, req proto.Message) error {
	r := access.Method(method)
	id, err := g.Enter(r, c)
	if err != nil {
		return err
	}
	return g.Check(r, id, req)
}

func grant(role auth.Role, prefixes ...string) auth.Grant {
	g := auth.Grant{Role: role}
	for _, p := range prefixes {
		g.Prefixes = append(g.Prefixes, []byte(p))
	}
	return g
}

func in(database string, g auth.Grant) auth.Grant {
	g.Databases = []string{database}
	return g
}

const (
	get      = serverpb.DKV_Get_FullMethodName
	put      = serverpb.DKV_Put_FullMethodName
	multiGet = serverpb.DKV_MultiGet_FullMethodName
	multiPut = serverpb.DKV_MultiPut_FullMethodName
	iterate  = serverpb.DKV_Iterate_FullMethodName
	watch    = serverpb.DKVReplication_WatchChanges_FullMethodName
	changes  = serverpb.DKVReplication_StreamChanges_FullMethodName
	backup   = serverpb.DKVBackupRestore_Backup_FullMethodName
	hash     = serverpb.DKVNode_GetContentHash_FullMethodName
	status   = serverpb.DKVNode_GetNodeStatus_FullMethodName
	rows     = serverpb.DKVDiscovery_UpdateStatus_FullMethodName
	lookup   = serverpb.DKVDiscovery_GetClusterInfo_FullMethodName
	release  = serverpb.DKVDiscovery_ReleaseDatabase_FullMethodName
	clock    = peerpb.Members_Time_FullMethodName
	health   = "/grpc.health.v1.Health/Check"
)

func key(k string) *serverpb.GetRequest { return &serverpb.GetRequest{Key: []byte(k)} }

func iteration(prefix, start string, reverse bool) *serverpb.IterateRequest {
	return &serverpb.IterateRequest{KeyPrefix: []byte(prefix), StartKey: []byte(start), Reverse: reverse}
}

func keysOf(keys ...string) (*serverpb.MultiGetRequest, *serverpb.MultiPutRequest) {
	g, p := new(serverpb.MultiGetRequest), new(serverpb.MultiPutRequest)
	for _, k := range keys {
		g.Keys = append(g.Keys, []byte(k))
		p.PutRequest = append(p.PutRequest, &serverpb.PutRequest{Key: []byte(k)})
	}
	return g, p
}

// TestKeysAreConfined: an identity with a prefix reaches the keys that begin with it, by no
// call any other one.
func TestKeysAreConfined(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Read, "ab/"), grant(auth.Write, "ab/"), grant(auth.Watch, "ab/")}})
	inGet, inPut := keysOf("ab/1", "ab/")
	outGet, outPut := keysOf("ab/1", "ab0", "ab/2")
	for _, c := range []struct {
		name, method string
		req          proto.Message
		allowed      bool
	}{
		{"a key", get, key("ab/1"), true},
		{"the prefix itself", get, key("ab/"), true},
		{"the prefix of the prefix", get, key("ab"), false},
		{"the key behind the range", get, key("ab0"), false},
		{"the empty key", get, key(""), false},
		{"a put", put, &serverpb.PutRequest{Key: []byte("ab/1")}, true},
		{"a put outside", put, &serverpb.PutRequest{Key: []byte("ac")}, false},
		{"several keys", multiGet, inGet, true},
		{"one of several keys outside", multiGet, outGet, false},
		{"several puts", multiPut, inPut, true},
		{"one of several puts outside", multiPut, outPut, false},
		{"the range", iterate, iteration("ab/", "", false), true},
		{"a part of the range", iterate, iteration("ab/x", "", false), true},
		{"the range from a key on", iterate, iteration("ab/", "ab/5", false), true},
		{"the range backwards", iterate, iteration("ab/", "", true), true},
		{"the range backwards from a key on", iterate, iteration("ab/", "ab/5", true), true},
		{"the prefix of the prefix", iterate, iteration("ab", "", false), false},
		{"no bounds", iterate, iteration("", "", false), false},
		{"no bounds backwards", iterate, iteration("", "", true), false},
		{"from the range beyond its end", iterate, iteration("", "ab/1", false), false},
		{"from outside into the range", iterate, iteration("", "ab", false), false},
		{"from the range backwards beyond its begin", iterate, iteration("", "ab/1", true), false},
		{"backwards from the end of the prefix of the prefix", iterate, iteration("ab", "ab/1", true), false},
		{"forwards from before the range, which the handler rejects", iterate, iteration("ab/", "aa", false), false},
		{"backwards from behind the range, which the handler rejects", iterate, iteration("ab/", "ac", true), false},
		{"another range", iterate, iteration("b", "", false), false},
		{"a watch", watch, &serverpb.WatchChangesRequest{KeyPrefix: []byte("ab/")}, true},
		{"a watch of more", watch, &serverpb.WatchChangesRequest{KeyPrefix: []byte("ab")}, false},
		{"a watch of all", watch, &serverpb.WatchChangesRequest{}, false},
		{"a content hash", hash, &serverpb.ContentHashRequest{}, false},
	} {
		err := try(g, by("t"), c.method, c.req)
		if (err == nil) != c.allowed || err != nil && kv.KindOf(err) != kv.Denied {
			t.Errorf("%s by %s: %v", c.name, c.method, err)
		}
	}
}

// TestLastPrefix: a range without an end is within a prefix that has none.
func TestLastPrefix(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Read, "\xff")}})
	for start, allowed := range map[string]bool{"\xff": true, "\xff\x01": true, "\xfe": false, "": false} {
		if err := try(g, by("t"), iterate, iteration("", start, false)); (err == nil) != allowed {
			t.Errorf("from %q on: %v", start, err)
		}
	}
}

// TestErrorsSayWhatIsMissing: they name the role and the database, and what may be asked
// for; not whether a key exists.
func TestErrorsSayWhatIsMissing(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Read, "a/", "b/", "c/", "d/", "e/", "f/", "g/")}, "none": nil})
	for _, c := range []struct {
		token, method string
		req           proto.Message
		want          []string
	}{
		{"t", iterate, iteration("", "", false), []string{`"t"`, "read", `"db"`, `"a/"`, "and 2 more"}},
		{"t", put, &serverpb.PutRequest{}, []string{`"t"`, "write", `"db"`}},
		{"none", status, nil, []string{"any role"}},
		{"", get, key("a/1"), []string{"without credentials", "show a token"}},
		{"t", clock, nil, []string{"tls-node-name"}},
		{"t", release, &serverpb.ReleaseDatabaseRequest{Database: "db"}, []string{"admin"}},
	} {
		err := try(g, by(c.token), c.method, c.req)
		for _, part := range c.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%q to %s: %v; want %q in it", c.token, c.method, err, part)
			}
		}
	}
}

// TestWrongCredentialsAreNoAnonymousOnes: a token that is sent decides alone.
func TestWrongCredentialsAreNoAnonymousOnes(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"anonymous": {grant(auth.Read)}})
	if err := try(g, by(""), get, key("x")); err != nil {
		t.Error(err)
	}
	if err := try(g, by("guessed"), get, key("x")); kv.KindOf(err) != kv.Unauthenticated {
		t.Error(err)
	}
	if err := try(g, by("guessed"), health, nil); err != nil {
		t.Errorf("health checks need no identity: %v", err)
	}
	if err := try(g, by(""), put, &serverpb.PutRequest{}); kv.KindOf(err) != kv.Unauthenticated {
		t.Errorf("a caller that shows nothing may have credentials: %v", err)
	}
}

// TestOtherDatabases: a grant for another database opens nothing here.
func TestOtherDatabases(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"other": {in("other", grant(auth.Admin))}, "here": {in("db", grant(auth.Admin))}})
	for _, method := range []string{get, put, iterate, watch, changes, backup, hash} {
		r := access.Method(method)
		if _, err := g.Enter(r, by("other")); kv.KindOf(err) != kv.Denied {
			t.Errorf("%s with a grant for another database: %v", method, err)
		}
		if _, err := g.Enter(r, by("here")); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// TestPrefixesGrantNoWholeDatabase: neither replication nor administration is about keys.
func TestPrefixesGrantNoWholeDatabase(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Admin, "a"), grant(auth.Replication, "a")}})
	for _, method := range []string{backup, changes} {
		if _, err := g.Enter(access.Method(method), by("t")); kv.KindOf(err) != kv.Denied {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func row(database string, s serverpb.RegionStatus) *serverpb.RegionInfo {
	return &serverpb.RegionInfo{Database: database, Status: s}
}

// TestRowsOfTheRegistry: only nodes register masters, slaves need the replication of their
// database.
func TestRowsOfTheRegistry(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{
		"slave":  {in("db", grant(auth.Replication))},
		"admin":  {in("db", grant(auth.Admin))},
		"reader": {in("db", grant(auth.Read))},
	})
	const slave, leader, follower = serverpb.RegionStatus_ACTIVE_SLAVE, serverpb.RegionStatus_LEADER, serverpb.RegionStatus_SECONDARY_FOLLOWER
	update := func(first *serverpb.RegionInfo, more ...*serverpb.RegionInfo) *serverpb.UpdateStatusRequest {
		return &serverpb.UpdateStatusRequest{RegionInfo: first, More: more}
	}
	filter := func(database string) *serverpb.GetClusterInfoRequest {
		return &serverpb.GetClusterInfoRequest{Database: &database}
	}
	for _, c := range []struct {
		name, token, method string
		req                 proto.Message
		allowed             bool
	}{
		{"a slave", "slave", rows, update(row("db", slave)), true},
		{"a slave that does not serve", "slave", rows, update(row("db", serverpb.RegionStatus_INACTIVE)), true},
		{"a slave of another database", "slave", rows, update(row("other", slave)), false},
		{"a slave that says it leads", "slave", rows, update(row("db", leader)), false},
		{"a slave that says it leads further on", "slave", rows, update(row("db", slave), row("db", leader)), false},
		{"a slave that says it follows", "slave", rows, update(nil, row("db", follower)), false},
		{"an administrator that says it leads", "admin", rows, update(row("db", leader)), false},
		{"a reader", "reader", rows, update(row("db", slave)), false},
		{"a node", accesstest.NodeToken, rows, update(row("other", leader)), true},
		{"a look-up", "reader", lookup, filter("db"), true},
		{"a look-up of another database", "reader", lookup, filter("other"), false},
		{"a look-up of all databases", "reader", lookup, &serverpb.GetClusterInfoRequest{}, false},
		{"a look-up without credentials", "", lookup, filter("db"), false},
		{"a release", "admin", release, &serverpb.ReleaseDatabaseRequest{Database: "db"}, true},
		{"a release of another database", "admin", release, &serverpb.ReleaseDatabaseRequest{Database: "other"}, false},
		{"a release by a slave", "slave", release, &serverpb.ReleaseDatabaseRequest{Database: "db"}, false},
	} {
		if err := try(g, by(c.token), c.method, c.req); (err == nil) != c.allowed {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMarksAreOfNodes: a client cannot pass for a node, nor for another identity.
func TestMarksAreOfNodes(t *testing.T) {
	g, a := guarded(map[string][]auth.Grant{"admin": {grant(auth.Admin)}, "reader": {grant(auth.Read)}})
	marked := func(token, vouched string) *access.Caller {
		c := by(token)
		c.Marked, c.Vouched = true, vouched
		return c
	}
	for _, token := range []string{"", "reader", "admin"} {
		if _, err := g.Enter(access.Method(get), marked(token, "")); kv.KindOf(err) != kv.Denied {
			t.Errorf("%q with a mark: %v", token, err)
		}
		if _, err := g.Enter(access.Method(backup), marked(token, "admin")); kv.KindOf(err) != kv.Denied {
			t.Errorf("%q in the name of another identity: %v", token, err)
		}
	}
	id, err := g.Enter(access.Method(get), marked(accesstest.NodeToken, "reader"))
	if err != nil || id.Name != "reader" || id.Via != "node-1" {
		t.Errorf("a forwarded call: %+v, %v", id, err)
	}
	if err := try(g, marked(accesstest.NodeToken, "reader"), put, &serverpb.PutRequest{}); kv.KindOf(err) != kv.Denied {
		t.Errorf("a forwarded call beyond the grants of its caller: %v", err)
	}
	a.Remove("reader")
	if err := try(g, marked(accesstest.NodeToken, "reader"), get, key("x")); kv.KindOf(err) != kv.Denied {
		t.Errorf("a forwarded call of an unknown identity: %v", err)
	}
	if err := try(g, marked(accesstest.NodeToken, ""), clock, nil); err != nil {
		t.Errorf("a node's own call: %v", err)
	}
}

// TestUnknownMethod: what has no row is not allowed, not even to a node.
func TestUnknownMethod(t *testing.T) {
	g, _ := guarded(nil)
	for _, o := range []access.Options{{}, {Exposure: access.Exposed}} {
		if _, err := access.NewGuard(o).Enter(access.Method("/x/Y"), by("")); kv.KindOf(err) != kv.Denied {
			t.Errorf("%v: %v", o, err)
		}
	}
	if _, err := g.Enter(nil, by(accesstest.NodeToken)); kv.KindOf(err) != kv.Denied {
		t.Error(err)
	}
}

// TestStill: a stream ends when its grants no longer cover it.
func TestStill(t *testing.T) {
	g, a := guarded(map[string][]auth.Grant{"t": {grant(auth.Watch, "a/", "b/")}})
	r, req := access.Method(watch), &serverpb.WatchChangesRequest{KeyPrefix: []byte("a/")}
	id, err := g.Enter(r, by("t"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Still(r, id, req); err != nil {
		t.Error(err)
	}
	a.Grant("t", grant(auth.Watch, "b/"))
	if err := g.Still(r, id, req); kv.KindOf(err) != kv.Denied {
		t.Errorf("its keys are no longer granted: %v", err)
	}
	a.Grant("t", grant(auth.Read))
	if err := g.Still(r, id, nil); kv.KindOf(err) != kv.Denied {
		t.Errorf("its role is no longer granted: %v", err)
	}
	a.Remove("t")
	if err := g.Still(r, id, req); kv.KindOf(err) != kv.Denied {
		t.Errorf("it is no longer known: %v", err)
	}
}

// TestProtectedMode: a node without authentication serves this machine, the members of its
// cluster and connections with a node's certificate, unless allow-insecure opens it.
func TestProtectedMode(t *testing.T) {
	here, member, stranger := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	shown := new(tls.ConnectionState)
	const reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	for _, c := range []struct {
		exposure                      access.Exposure
		from                          netip.Addr
		state                         *tls.ConnectionState
		data, admin, local, everybody bool
	}{
		{access.Protected, netip.MustParseAddr("127.0.0.1"), nil, true, true, true, true},
		{access.Protected, netip.MustParseAddr("::1"), nil, true, true, true, true},
		{access.Protected, netip.MustParseAddr("::ffff:127.0.0.1"), nil, true, true, true, true},
		{access.Protected, here, nil, true, true, true, true},
		{access.Protected, member, nil, true, true, false, true},
		{access.Protected, stranger, shown, true, true, false, true},
		{access.Protected, stranger, nil, false, false, false, true},
		{access.Protected, netip.Addr{}, nil, false, false, false, true},
		{"", stranger, nil, false, false, false, true},
		{access.ExposedData, stranger, nil, true, false, false, true},
		{access.ExposedData, member, nil, true, true, false, true},
		{access.Exposed, stranger, nil, true, true, false, true},
		{access.Exposed, here, nil, true, true, true, true},
	} {
		g := access.NewGuard(access.Options{
			Exposure: c.exposure,
			OfNode:   func(s *tls.ConnectionState) bool { return s == shown },
			Here:     func(a netip.Addr) bool { return a == here },
			Member:   func(a netip.Addr) bool { return a == member },
		})
		for method, want := range map[string]bool{get: c.data, changes: c.data, clock: c.data, backup: c.admin, reflection: c.local, health: c.everybody} {
			_, err := g.Enter(access.Method(method), &access.Caller{Credentials: auth.Credentials{Host: c.from, TLS: c.state}})
			if (err == nil) != want || err != nil && kv.KindOf(err) != kv.Denied {
				t.Errorf("allow-insecure %s: %s from %v: %v", c.exposure, method, c.from, err)
			}
			r := access.Method(method)
			if quick := g.Opens(r) || !r.Local && g.Trusts(c.from.Unmap(), c.state); quick && err != nil {
				t.Errorf("allow-insecure %s: %s from %v is allowed on the short way only", c.exposure, method, c.from)
			}
		}
	}
}

// TestCheckAllocatesNothing: it is called for each request.
func TestCheckAllocatesNothing(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Read, "a/", "b/")}})
	r, req := access.Method(get), key("b/1")
	id, err := g.Enter(r, by("t"))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if g.Check(r, id, req) != nil {
			t.Error("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestForgedMarksHaveAName: a caller that claims to forward a call is rejected under its own
// name, for the audit log; and so is a node that forwards one of an unknown identity.
func TestForgedMarksHaveAName(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"t": {grant(auth.Read)}})
	for token, want := range map[string]string{"t": "t", accesstest.NodeToken: "node-1"} {
		c := by(token)
		c.Marked, c.Vouched = true, "no one"
		id, err := g.Enter(access.Method(get), c)
		if kv.KindOf(err) != kv.Denied || id == nil || id.Name != want {
			t.Errorf("%s: %+v, %v", token, id, err)
		}
	}
}

// TestSummariesAreOfAllDatabases: the registry counts all its rows for a summary, whatever
// database the request names.
func TestSummariesAreOfAllDatabases(t *testing.T) {
	g, _ := guarded(map[string][]auth.Grant{"one": {in("db", grant(auth.Read))}, "all": {grant(auth.Read)}})
	req := &serverpb.GetClusterInfoRequest{Database: proto.String("db")}
	if err := try(g, by("one"), lookup, req); err != nil {
		t.Error(err)
	}
	req.SummaryOnly = true
	if err := try(g, by("one"), lookup, req); kv.KindOf(err) != kv.Denied {
		t.Errorf("a summary: %v", err)
	}
	if err := try(g, by("all"), lookup, req); err != nil {
		t.Error(err)
	}
}

// withoutKeys has no keys to check a JWT with.
type withoutKeys struct{ *accesstest.Authenticator }

func (withoutKeys) Identify(auth.Credentials) (*auth.Identity, error) {
	return nil, auth.ErrUnavailable
}

// TestNodeWithoutKeysIsUnavailable: that a node cannot check a JWT does not mean that the JWT
// is wrong, so clients may try again, and at another node.
func TestNodeWithoutKeysIsUnavailable(t *testing.T) {
	g := access.NewGuard(access.Options{Authenticator: withoutKeys{accesstest.New()}})
	if err := try(g, by("t"), get, key("x")); kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
		t.Error(err)
	}
}
