package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// module is a Go module that is linked.
type module struct{ path, version, dir string }

// linked returns the modules that the programs are linked with, sorted.
func linked() ([]module, error) { return linkedWith("github.com/dkvdb/dkv/cmd/...") }

// linkedWith returns the modules that packages are linked with, sorted.
func linkedWith(packages string) ([]module, error) {
	const format = `{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}`
	cmd := exec.Command("go", "list", "-deps", "-f", format, packages)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, &stderr)
	}
	var modules []module
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 {
			modules = append(modules, module{f[0], f[1], f[2]})
		}
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return slices.Compact(modules), nil
}

// licences returns the names of a module's licences, and adds their texts, and what the
// module wants to be passed on as its notice.
func (m module) licences(all *texts) ([]string, error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; run go mod download", m.path, err)
	}
	var names []string
	for _, e := range entries {
		upper := strings.ToUpper(e.Name())
		isNotice := strings.HasPrefix(upper, "NOTICE")
		if e.IsDir() || !isNotice && !isLicenceFile(upper) {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		text := strings.TrimSpace(strings.ReplaceAll(string(raw), "\r\n", "\n"))
		all.add(text, m.path)
		if isNotice {
			continue
		}
		name := classify(text)
		if name == "" {
			return nil, fmt.Errorf("%s: the licence in %s is not known to this tool: teach it", m.path, e.Name())
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no licence in %s", m.path, m.dir)
	}
	return names, nil
}

func isLicenceFile(upper string) bool {
	return strings.HasPrefix(upper, "LICENSE") || strings.HasPrefix(upper, "LICENCE") || strings.HasPrefix(upper, "COPYING")
}

// classify returns the SPDX name of a licence by words that only it has; "" if it is none
// of those that are accepted.
func classify(text string) string {
	has := func(words string) bool { return strings.Contains(strings.Join(strings.Fields(text), " "), words) }
	switch {
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Mozilla Public License") && has("2.0"):
		return "MPL-2.0"
	case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("may not be used to endorse")):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission is hereby granted, free of charge"):
		return "MIT"
	case has("Permission to use, copy, modify, and/or distribute this software"), has("Permission to use, copy, modify, and distribute this software"):
		return "ISC"
	}
	return ""
}
