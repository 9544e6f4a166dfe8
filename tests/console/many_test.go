package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/console"
	"github.com/dkvdb/dkv/internal/ops"
)

// full is why a vBucket rejects writes.
const full = "the disk is nearly full: writes stop below 24 MiB (disk-reserve) on the file system of /data; free some space, writes resume by themselves"

// manyVBuckets is the document of a master with 1024 vBuckets, some of which are not well.
func manyVBuckets(t *testing.T) []byte {
	t.Helper()
	health := ops.Health{Status: ops.Degraded, Reasons: []string{full}, NodeID: "1", NodeName: "master1", Version: "v1", Role: "master",
		Disk: ops.Disk{FreeBytes: 1 << 20, TotalBytes: 1 << 30, ReserveBytes: 24 << 20}}
	for i := range 1024 {
		v := ops.VBucket{Database: "default", Name: fmt.Sprint(i), Mode: "raft", State: "serving", IsLeader: i != 900, Leader: "10.0.0.1:8080", Term: 1}
		if i == 900 {
			v.Leader = ""
		}
		if i%100 == 50 {
			v.WritesRejected, v.Reasons = full, []string{full}
		}
		health.VBuckets = append(health.VBuckets, v)
	}
	raw, err := json.Marshal(map[string]any{"database": "default", "nodes": []any{map[string]any{"name": "master1", "role": "master", "address": "10.0.0.1:8080",
		"http_address": "10.0.0.1:8081", "node_url": "http://10.0.0.1:9020", "voting": true, "self": true, "answers": true, "health": health}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// diskBytes are the metrics of those vBuckets: the later ones have more on the disk.
func diskBytes() []byte {
	var metrics []string
	for i := range 1024 {
		metrics = append(metrics, fmt.Sprintf(`{"labels": {"vbucket": "%d"}, "value": %d}`, i, i<<20))
	}
	return []byte(`[{"name": "dkv_storage_disk_bytes", "metrics": [` + strings.Join(metrics, ",") + `]}]`)
}

// TestConsoleOfAThousandVBuckets: what is wrong comes first, and the rest is there when it is asked
// for.
func TestConsoleOfAThousandVBuckets(t *testing.T) {
	document, metrics := manyVBuckets(t), diskBytes()
	mux := http.NewServeMux()
	mux.Handle("/", console.Page())
	mux.Handle(console.Path, console.Assets())
	mux.HandleFunc("/metrics/json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(metrics) })
	mux.HandleFunc("/admin/backups", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"backups": []}`)) })
	mux.HandleFunc("/admin/nodes/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for each := time.NewTicker(time.Second); ; {
			fmt.Fprintf(w, "event: nodes\ndata: %s\n\n", document)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-each.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	node := httptest.NewServer(mux)
	chrome := browser(t)
	t.Cleanup(node.CloseClientConnections)
	p := open(t, chrome, strings.TrimPrefix(node.URL, "http://"), "cluster")
	p.until("the vBuckets, the worst first", `[...document.querySelectorAll(".cell")].slice(0, 3).map((c) => c.innerText.split("\n")[0]).join() === "900,50,150"`)
	if n := eval[int](p, `document.querySelectorAll(".cell").length`); n != 256 {
		t.Errorf("%d vBuckets are drawn", n)
	}
	for _, want := range []string{"1 vBucket has no leader", "disk-reserve", "rejected", "by 10 of 1,024 vBuckets", "1013 healthy", "Show all 1024: 768 more"} {
		if !strings.Contains(p.text("main"), want) {
			t.Errorf("the page does not show %q:\n%s", want, p.text("main"))
		}
	}
	p.fits("Cluster")
	p.shoot("many")
	p.click(`.cell[aria-label^="vBucket 50:"]`)
	p.until("the details above the map", `document.querySelector("#vbucket-detail")?.getBoundingClientRect().bottom < document.querySelector(".grid").getBoundingClientRect().top`)
	p.click("#map-more")
	p.until("all vBuckets", `document.querySelectorAll(".cell").length === 1024`)
	p.click(`a[href="#storage"]`)
	p.until("the largest vBuckets", `document.querySelectorAll("#by-vbucket tbody tr").length === 32 && document.querySelector("#by-vbucket tbody td").innerText === "1023"`)
	p.until("that writes are refused now", `document.querySelector("[data-storage=master1]").innerText.includes("Writes are refused: that is below disk-reserve")`)
	p.quiet()
}
