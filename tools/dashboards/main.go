// Dashboards writes the Grafana dashboards in deploy/grafana from the tables of this
// program, so that all of them have one layout and one set of variables.
//
//	go run ./tools/dashboards FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: dashboards FOLDER")
	}
	for _, d := range dashboards {
		text, err := json.MarshalIndent(d.model(), "", "  ")
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(os.Args[1], d.uid+".json"), append(text, '\n'), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// dashboard is a page of panels, laid out in rows of three.
type dashboard struct {
	uid, title, description string
	panels                  []panel
}

// panel is one diagram, or one number if it is a stat.
type panel struct {
	title, unit string
	// help is what the panel shows beside its title.
	help    string
	stat    bool
	queries []query
}

// query is a PromQL expression, and the name of each of its lines.
type query struct{ expr, legend string }

// The size of a panel on Grafana's grid, which is 24 wide.
const (
	panelWidth, panelHeight = 8, 8
	perRow                  = 3
)

type object = map[string]any

// model is the dashboard as Grafana imports it.
func (d dashboard) model() object {
	var panels []object
	for i, p := range d.panels {
		panels = append(panels, p.model(i))
	}
	return object{
		"uid": d.uid, "title": d.title, "description": d.description,
		"tags": []string{"dkv"}, "schemaVersion": 39, "version": 1, "editable": true,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "15s", "timezone": "browser",
		"links": []object{{"type": "dashboards", "tags": []string{"dkv"}, "title": "DKV", "asDropdown": true, "keepTime": true}},
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
			variable("job", "Job", "label_values(dkv_build_info, job)"),
			variable("database", "Database", `label_values(dkv_applied_index{job=~"$job"}, database)`),
			variable("instance", "Node", `label_values(dkv_build_info{job=~"$job"}, instance)`),
		}},
		"panels": panels,
	}
}

func variable(name, label, values string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
		"query": object{"query": values, "refId": name}, "definition": values,
		"includeAll": true, "multi": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
	}
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

func (p panel) model(i int) object {
	var targets []object
	for n, q := range p.queries {
		targets = append(targets, object{"refId": string(rune('A' + n)), "datasource": source, "expr": q.expr, "legendFormat": q.legend})
	}
	out := object{
		"id": i + 1, "title": p.title, "description": p.help, "datasource": source, "targets": targets,
		"gridPos":     object{"x": i % perRow * panelWidth, "y": i / perRow * panelHeight, "w": panelWidth, "h": panelHeight},
		"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0}, "overrides": []object{}},
	}
	if p.stat {
		out["type"] = "stat"
		out["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": "none"}
		return out
	}
	out["type"] = "timeseries"
	out["options"] = object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	return out
}

// Selectors of the series that the variables choose.
const (
	ofNode     = `job=~"$job", instance=~"$instance"`
	ofDatabase = ofNode + `, database=~"$database"`
)

// rate is the per-second increase of a counter, summed by labels.
func rate(by, metric, selector string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}[$__rate_interval]))", by, metric, selector)
}

// quantile is a quantile of a histogram of seconds, by labels.
func quantile(q float64, by, metric, selector string) string {
	return fmt.Sprintf("histogram_quantile(%g, sum by (%s, le) (rate(%s_bucket{%s}[$__rate_interval])))", q, by, metric, selector)
}

// largest is the largest value of a gauge, by labels.
func largest(by, metric, selector string) string {
	return fmt.Sprintf("max by (%s) (%s{%s})", by, metric, selector)
}

// sum is the sum of a gauge, by labels.
func sum(by, metric, selector string) string {
	return fmt.Sprintf("sum by (%s) (%s{%s})", by, metric, selector)
}
