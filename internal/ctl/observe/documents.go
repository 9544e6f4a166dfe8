package observe

import (
	"encoding/json"
	"errors"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// errUnknown is the error of a member that has not been heard of since the others started.
var errUnknown = errors.New("its gRPC address is not known: it has not been heard of since the others started")

func hostPort(r *serverpb.Replica) string {
	return net.JoinHostPort(r.GetHostname(), strconv.FormatUint(uint64(r.GetPort()), 10))
}

// Health is what is read of GET /health.
type Health struct {
	Status   string   `json:"status"`
	Reasons  []string `json:"reasons"`
	Insecure string   `json:"insecure"`
	Disk     struct {
		Free    uint64 `json:"free_bytes"`
		Total   uint64 `json:"total_bytes"`
		Reserve uint64 `json:"reserve_bytes"`
	} `json:"disk"`
}

// Report is GET /admin/node.
type Report struct {
	Config  map[string]string `json:"config"`
	Set     []string          `json:"set"`
	Notices []string          `json:"notices"`
	Host    struct {
		Name              string    `json:"name"`
		CPUs              int       `json:"cpus"`
		Memory            uint64    `json:"memory_bytes"`
		Available         uint64    `json:"available_bytes"`
		Resident          uint64    `json:"resident_bytes"`
		Swapped           uint64    `json:"swapped_bytes"`
		HeapLimit         uint64    `json:"heap_limit_bytes"`
		FilesLimit        int       `json:"files_limit"`
		FilesOpen         int       `json:"files_open"`
		ClockSynchronized *bool     `json:"clock_synchronized"`
		Time              time.Time `json:"time"`
	} `json:"host"`
	Disk struct {
		Path        string  `json:"path"`
		Free        uint64  `json:"free_bytes"`
		Total       uint64  `json:"total_bytes"`
		Reserve     uint64  `json:"reserve_bytes"`
		SyncSeconds float64 `json:"sync_seconds"`
		SyncFault   string  `json:"sync_fault"`
	} `json:"disk"`
	Certificates []struct {
		Of       string    `json:"of"`
		File     string    `json:"file"`
		NotAfter time.Time `json:"not_after"`
	} `json:"certificates"`
	Backups struct {
		Dir   string    `json:"dir"`
		Count int       `json:"count"`
		Last  time.Time `json:"last"`
		Name  string    `json:"name"`
		Fault string    `json:"fault"`
	} `json:"backups"`
}

// UsesRegistry reports whether the node announces itself to a registry.
func (r *Report) UsesRegistry() bool {
	return r.Config["disable-discovery-client"] == "false" && r.Config["role"] != Standalone && r.Config["role"] != Discovery
}

// RegistryAddresses are where the node looks for the registry.
func (r *Report) RegistryAddresses() []string {
	list := strings.TrimPrefix(r.Config["discovery-service.client.discovery-service-addr"], "multi:///")
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

// family and metric are those of GET /metrics/json.
type family struct {
	Name    string   `json:"name"`
	Metrics []metric `json:"metrics"`
}

type metric struct {
	Labels  map[string]string `json:"labels"`
	Value   number            `json:"value"`
	Count   uint64            `json:"count"`
	Buckets map[string]uint64 `json:"buckets"`
}

// number is a value that is a string if JSON has no number for it.
type number float64

func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	*n = number(f)
	return err
}

// Names are the metrics that are asked for. All of them would be megabytes each second if a node
// has a thousand vBuckets.
func Names() []string {
	return []string{
		"dkv_requests_total", "dkv_request_duration_seconds", "dkv_raft_leader_changes_total", "dkv_clock_damped_seconds", "dkv_storage_corrupt",
		"dkv_storage_pending_compaction_bytes", "dkv_slave_copy_kept", "dkv_cluster_disputed_vbuckets", "dkv_auth_reload_failures_total",
	}
}

// Metrics are the metrics of a node that are in Names.
type Metrics struct{ families []family }

// UnmarshalJSON reads the document of GET /metrics/json.
func (m *Metrics) UnmarshalJSON(raw []byte) error { return json.Unmarshal(raw, &m.families) }

func (m *Metrics) of(name string) []metric {
	if m == nil {
		return nil
	}
	for i := range m.families {
		if m.families[i].Name == name {
			return m.families[i].Metrics
		}
	}
	return nil
}

// Sum returns the sum of a metric over its labels; 0 if there is none.
func (m *Metrics) Sum(name string) float64 {
	sum := 0.0
	for _, v := range m.of(name) {
		sum += float64(v.Value)
	}
	return sum
}

// Greatest returns the value of a metric that is farthest from 0, with its label of a name.
func (m *Metrics) Greatest(name, label string) (value float64, labelled string) {
	for _, v := range m.of(name) {
		if f := float64(v.Value); math.Abs(f) > math.Abs(value) {
			value, labelled = f, v.Labels[label]
		}
	}
	return value, labelled
}

// Requests returns how many requests the node has finished, and how many of them failed. A
// key that does not exist and a value that did not match are no failures.
func (m *Metrics) Requests() (all, failed float64) {
	for _, v := range m.of("dkv_requests_total") {
		all += float64(v.Value)
		switch v.Labels["code"] {
		case "OK", "NotFound", "Canceled":
		default:
			failed += float64(v.Value)
		}
	}
	return all, failed
}

// Durations returns how many requests took up to so many seconds, for each upper bound, over
// all operations.
func (m *Metrics) Durations() map[float64]uint64 {
	out := make(map[float64]uint64)
	for _, v := range m.of("dkv_request_duration_seconds") {
		for bound, n := range v.Buckets {
			if f, err := strconv.ParseFloat(bound, 64); err == nil {
				out[f] += n
			}
		}
	}
	return out
}
