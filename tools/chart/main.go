// Command chart renders the Helm chart in deploy/helm, as Helm does it, for several
// values, checks what comes out against the types of Kubernetes, and writes it to
// deploy/helm/rendered, where tests of this project read it. It also checks the compose
// files against the schema of compose, and packs the chart.
//
//	chart render ROOT             write deploy/helm/rendered
//	chart check ROOT              fail if that is not current
//	chart pack ROOT VERSION OUT   write OUT/dkv-VERSION.tgz
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: chart render|check ROOT, or chart pack ROOT VERSION OUT")
	}
	root := args[1]
	c, err := loader.LoadDir(filepath.Join(root, "deploy/helm/dkv"))
	if err != nil {
		return err
	}
	switch {
	case args[0] == "render" && len(args) == 2:
		return each(c, root, os.WriteFile)
	case args[0] == "check" && len(args) == 2:
		if err := each(c, root, compare); err != nil {
			return err
		}
		return checkCompose(root)
	case args[0] == "pack" && len(args) == 4:
		return pack(c, args[2], args[3])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// pack writes the chart with the version of a release.
func pack(c *chart.Chart, version, out string) error {
	c.Metadata.Version, c.Metadata.AppVersion = version, version
	path, err := chartutil.Save(c, out)
	if err == nil {
		fmt.Println(path)
	}
	return err
}

// each renders the chart for each set of values, and gives what comes out to use.
func each(c *chart.Chart, root string, use func(string, []byte, os.FileMode) error) error {
	dir := filepath.Join(root, "deploy/helm/rendered")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	digest, err := digestOf(filepath.Join(root, "deploy/helm/dkv"))
	if err != nil {
		return err
	}
	for _, set := range sets {
		text, err := render(c, set.values)
		if err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		if err := checkManifests(text); err != nil {
			return fmt.Errorf("%s: %w", set.name, err)
		}
		text = append([]byte("# Written by make chart. The chart's files: "+digest+"\n"), text...)
		if err := use(filepath.Join(dir, set.name+".yaml"), text, 0o644); err != nil {
			return err
		}
	}
	return checkRefusals(c)
}

// compare fails if a file has another content.
func compare(path string, text []byte, _ os.FileMode) error {
	if got, err := os.ReadFile(path); err != nil || string(got) != string(text) {
		return fmt.Errorf("%s is not what the chart renders (%v): run make chart", path, err)
	}
	return nil
}
