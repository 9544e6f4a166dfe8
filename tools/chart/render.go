package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// values are what a user would write into a file of values.
type values = map[string]any

var one = values{"replicas": 1}

// sets are the values that the chart is rendered for: none, some that use everything, and a
// small cluster before and after it has got a member.
var sets = []struct {
	name   string
	values values
}{
	{"defaults", values{}},
	{"secure", values{
		"masters":                       values{"replicas": 4, "resources": values{"requests": values{"memory": "1Gi"}}},
		"config":                        values{"preset": "small"},
		"tls":                           values{"secretName": "dkv-tls"},
		"auth":                          values{"secretName": "dkv-auth"},
		"backup":                        values{"enabled": true},
		"antiAffinity":                  "required",
		"podAnnotations":                values{"example.com/note": "yes"},
		"nodeSelector":                  values{"disk": "fast"},
		"tolerations":                   []any{values{"key": "storage", "operator": "Exists"}},
		"priorityClassName":             "high",
		"terminationGracePeriodSeconds": 90,
	}},
	{"open", values{"allowInsecure": "true", "slaves": one, "registry": one, "backup": values{"enabled": true}}},
	{"grown", values{"allowInsecure": "true", "slaves": one, "registry": one, "masters": values{"replicas": 4}}},
}

// render renders the chart as helm install does.
func render(c *chart.Chart, v values) ([]byte, error) {
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: "dkv", Namespace: "default", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range files {
		if strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out bytes.Buffer
	for _, name := range names {
		for _, document := range strings.Split(files[name], "\n---\n") {
			if document = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(document), "---")); document != "" {
				fmt.Fprintf(&out, "---\n%s\n", document)
			}
		}
	}
	return out.Bytes(), nil
}

// refusals are values that must not render, with what the error says.
var refusals = []struct {
	values values
	says   string
}{
	{values{"masters": values{"replicas": 2}}, "keeps at least its founders"},
	{values{"masters": values{"replicas": 4}}, "set auth.secretName"},
	{values{"backup": values{"enabled": true}}, "administrative call"},
	{values{"registry": values{"replicas": 2}}, "/registry/replicas"},
	{values{"mastres": values{}}, "mastres"},
	{values{"masters": values{"storage": values{"size": "10"}}}, "/masters/storage/size"},
	{values{"allowInsecure": true}, "/allowInsecure"},
}

func checkRefusals(c *chart.Chart) error {
	var errs []error
	for _, r := range refusals {
		_, err := render(c, r.values)
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ".", "/"), strings.ReplaceAll(r.says, ".", "/")) {
			errs = append(errs, fmt.Errorf("values %v: %v, which does not say %q", r.values, err, r.says))
		}
	}
	return errors.Join(errs...)
}

// digestOf is the SHA-256 of a folder's files with their names, in order.
func digestOf(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(name), len(text), text)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
