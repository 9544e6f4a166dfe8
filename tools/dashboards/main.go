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

// dashboard is a page of panels, laid out from left to right as long as there is room.
type dashboard struct {
	uid, title, description string
	panels                  []panel
}

// panel is one diagram, or one number if it is a stat. Without queries it is the heading of
// those that follow.
type panel struct {
	title, unit string
	// help is what the panel shows beside its title.
	help string
	stat bool
	// bad is the value that an alert compares with: a stat is red from there on, green below,
	// and a diagram has a line there; 0 is none.
	bad float64
	// rare says that nothing to show is good: there are no errors, say.
	rare    bool
	queries []query
}

// query is a PromQL expression, and the name of each of its lines.
type query struct{ expr, legend string }

// gridWidth is that of Grafana's grid.
const gridWidth = 24

// size is that of a panel on the grid.
func (p panel) size() (w, h int) {
	switch {
	case len(p.queries) == 0:
		return gridWidth, 1
	case p.stat:
		return 4, 4
	default:
		return 8, 8
	}
}

type object = map[string]any

// model is the dashboard as Grafana imports it.
func (d dashboard) model() object {
	var panels []object
	var x, y, below int
	for i, p := range d.panels {
		w, h := p.size()
		if x+w > gridWidth {
			x, y = 0, below
		}
		panels = append(panels, p.model(i+1, object{"x": x, "y": y, "w": w, "h": h}))
		x, below = x+w, y+h
	}
	return object{
		"uid": d.uid, "title": d.title, "description": d.description,
		"tags": []string{"dkv"}, "schemaVersion": 39, "version": 1, "editable": true,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "15s", "timezone": "browser",
		"links": []object{{"type": "dashboards", "tags": []string{"dkv"}, "title": "DKV", "asDropdown": true, "keepTime": true}},
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
			// All jobs are all of DKV: the others that Prometheus scrapes have metrics of
			// processes, too.
			variable("job", "Job", "label_values(dkv_build_info, job)", ""),
			variable("database", "Database", `label_values(dkv_applied_index{job=~"$job"}, database)`, ".*"),
			variable("instance", "Node", `label_values(dkv_build_info{job=~"$job"}, instance)`, ".*"),
		}},
		"panels": panels,
	}
}

// variable has the values of a label to choose from. All is what all of them match, by
// default one of the values.
func variable(name, label, values, all string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
		"query": object{"query": values, "refId": name}, "definition": values,
		"includeAll": true, "multi": true, "allValue": all, "current": object{"text": "All", "value": "$__all"},
	}
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

func (p panel) model(id int, at object) object {
	if len(p.queries) == 0 {
		return object{"id": id, "type": "row", "title": p.title, "gridPos": at, "collapsed": false, "panels": []object{}}
	}
	var targets []object
	for n, q := range p.queries {
		// The last value of a range may be of a node that is gone, so a stat asks for the present one.
		targets = append(targets, object{"refId": string(rune('A' + n)), "datasource": source, "expr": q.expr, "legendFormat": q.legend, "instant": p.stat, "range": !p.stat})
	}
	out := object{
		"id": id, "title": p.title, "description": p.help, "datasource": source, "targets": targets, "gridPos": at,
		"fieldConfig": object{"defaults": p.fields(), "overrides": []object{}},
	}
	if p.stat {
		out["type"] = "stat"
		out["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": p.color(), "graphMode": "none"}
		return out
	}
	out["type"] = "timeseries"
	out["options"] = object{"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	return out
}

// fields is how the panel shows values.
func (p panel) fields() object {
	out := object{"unit": p.unit, "min": 0}
	if p.unit == "none" {
		out["decimals"] = 0
	}
	if p.rare {
		out["noValue"] = "none"
	}
	steps := []object{{"color": "green", "value": nil}}
	if p.bad > 0 {
		steps = append(steps, object{"color": "red", "value": p.bad})
	}
	out["thresholds"] = object{"mode": "absolute", "steps": steps}
	if p.stat {
		out["color"] = object{"mode": "thresholds"}
		return out
	}
	// Without values but 0 the axis would end at 100, of whatever unit.
	out["color"] = object{"mode": "palette-classic"}
	custom := object{"axisSoftMax": softMax[p.unit], "spanNulls": false}
	if p.bad > 0 {
		custom["thresholdsStyle"] = object{"mode": "dashed"}
	}
	out["custom"] = custom
	return out
}

// softMax is where the axis of a unit ends at least.
var softMax = map[string]float64{"none": 1, "ops": 1, "reqps": 1, "s": 0.001, "percentunit": 0.01, "bytes": 1024, "Bps": 1024}

// color is what a stat colors: all of it if there is something that may be wrong.
func (p panel) color() string {
	if p.bad > 0 {
		return "background"
	}
	return "none"
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

// found is the share of lookups in a cache, of an instance, that found something.
func found(cache string) string {
	hits, misses := rate("instance", cache+"_hits_total", ofDatabase), rate("instance", cache+"_misses_total", ofDatabase)
	return fmt.Sprintf("%s / (%s + %s)", hits, hits, misses)
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

// onSlaves selects the series of vBuckets that are copies.
func onSlaves(metric string) string {
	return fmt.Sprintf(`%s{%s} and on (job, instance, vbucket) dkv_vbucket_mode{mode="stream"}`, metric, ofDatabase)
}
