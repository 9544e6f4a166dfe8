package observe

import (
	"encoding/json"
	"testing"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
)

const answer = `[{"name": "dkv_requests_total", "metrics": [{"labels": {"op": "get", "code": "OK"}, "value": 7}, {"labels": {"op": "get", "code": "NotFound"}, "value": 2},
	{"labels": {"op": "put", "code": "Unavailable"}, "value": 1}]},
	{"name": "dkv_request_duration_seconds", "metrics": [{"labels": {"op": "get"}, "buckets": {"0.001": 3, "+Inf": 9}}, {"labels": {"op": "put"}, "buckets": {"0.001": 1, "+Inf": 1}}]},
	{"name": "dkv_clock_skew_seconds", "metrics": [{"labels": {"peer": "2"}, "value": 0.1}, {"labels": {"peer": "3"}, "value": -5}]},
	{"name": "broken", "metrics": [{"value": "NaN"}, {}]}]`

func TestMetrics(t *testing.T) {
	var m Metrics
	if err := json.Unmarshal([]byte(answer), &m); err != nil {
		t.Fatal(err)
	}
	if all, failed := m.Requests(); all != 10 || failed != 1 {
		t.Errorf("%v requests, %v failed", all, failed)
	}
	if d := m.Durations(); len(d) != 2 || d[0.001] != 4 {
		t.Errorf("%v", d)
	}
	if value, peer := m.Greatest("dkv_clock_skew_seconds", "peer"); value != -5 || peer != "3" {
		t.Errorf("%v of %q", value, peer)
	}
	var none *Metrics
	if none.Sum("dkv_requests_total") != 0 || m.Sum("other") != 0 {
		t.Error("a metric that is not there has a value")
	}
}

func TestRegistryOfANode(t *testing.T) {
	r := Report{Config: map[string]string{"role": "master", "disable-discovery-client": "false", "discovery-service.client.discovery-service-addr": "multi:///a:1, b:2,c:3"}}
	if got := r.RegistryAddresses(); !r.UsesRegistry() || len(got) != 3 || got[0] != "a:1" || got[2] != "c:3" {
		t.Errorf("%q", got)
	}
	for key, value := range map[string]string{"role": "none", "disable-discovery-client": "true"} {
		had := r.Config[key]
		if r.Config[key] = value; r.UsesRegistry() {
			t.Errorf("with %s: %s", key, value)
		}
		r.Config[key] = had
	}
}

// TestSilentMembers: a member that does not answer has the role and the cluster of the one that
// lists it.
func TestSilentMembers(t *testing.T) {
	c := &taking{cluster: new(Cluster), known: make(map[string]*Node)}
	for i, role := range []string{Master, Discovery} {
		c.setMember(&Node{Status: &serverpb.NodeStatusResponse{Role: role, ClusterId: "of " + role}}, &modelspb.NodeInfo{NodeUrl: "http://10.0.0.2:" + role})
		if n := c.cluster.Nodes[i]; n.Role() != role || n.MemberOf != "of "+role || !n.Voter() {
			t.Errorf("%+v", n)
		}
	}
}
