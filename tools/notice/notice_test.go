package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listed returns the lines of NOTICE below a title, up to the next one.
func listed(t *testing.T, title string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "NOTICE"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(raw), "\n"+title+"\n\n")
	if !ok {
		t.Fatalf("NOTICE has no list %q", title)
	}
	list, _, _ := strings.Cut(rest, "\n\n")
	return list
}

// TestEveryLinkedModuleIsInNotice: with its version, so that NOTICE is generated again after
// an upgrade.
func TestEveryLinkedModuleIsInNotice(t *testing.T) {
	modules, err := linked()
	if err != nil || len(modules) < 10 {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	list := listed(t, goTitle)
	for _, m := range modules {
		if !strings.Contains(list, "  "+m.path+" "+m.version+" ") {
			t.Errorf("%s %s is linked and not in NOTICE; run make notice", m.path, m.version)
		}
	}
	if lines := strings.Count(list, "\n") + 1; lines != len(modules) {
		t.Errorf("NOTICE lists %d modules, and %d are linked; run make notice", lines, len(modules))
	}
}

// TestEveryJavaDependencyIsInNotice looks at those that the client's POM names.
func TestEveryJavaDependencyIsInNotice(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "clients", "java", "pom.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Dependencies []struct {
			Group    string `xml:"groupId"`
			Artifact string `xml:"artifactId"`
			Scope    string `xml:"scope"`
		} `xml:"dependencies>dependency"`
	}
	if err := xml.Unmarshal(raw, &p); err != nil || len(p.Dependencies) == 0 {
		t.Fatalf("%d dependencies, %v", len(p.Dependencies), err)
	}
	list := listed(t, javaTitle)
	for _, d := range p.Dependencies {
		if d.Scope != "test" && !strings.Contains(list, "  "+d.Group+":"+d.Artifact+" ") {
			t.Errorf("%s:%s is not in NOTICE; run make notice", d.Group, d.Artifact)
		}
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n Version 2.0, January 2004":                                 "Apache-2.0",
		"Permission is hereby granted,\nfree of charge, to any person":               "MIT",
		"Redistribution and use in source and\nbinary forms ... Neither the name of": "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                          "BSD-2-Clause",
		"Mozilla Public License Version 2.0":                                         "MPL-2.0",
		"GNU GENERAL PUBLIC LICENSE Version 3":                                       "",
	} {
		if got := classify(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestArtifactIn(t *testing.T) {
	for line, want := range map[string]string{
		"   io.grpc:grpc-stub:jar:1.83.1:compile -- module io.grpc.stub": "io.grpc:grpc-stub:1.83.1",
		"   a.b:c:jar:linux-x86_64:2.0:runtime":                          "a.b:c:2.0",
		"The following files have been resolved:":                        "::",
		"": "::",
	} {
		if g, a, v, _ := artifactIn(line); g+":"+a+":"+v != want {
			t.Errorf("%q is %s:%s:%s, want %s", line, g, a, v, want)
		}
	}
}

func TestCompareFindsWhatIsMissing(t *testing.T) {
	const head = `{"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": "urn:uuid:1", "components": `
	for bill, want := range map[string]string{
		head + `[{"name": "a", "version": "v1", "purl": "pkg:golang/a@v1", "licenses": [{}]}]}`: "",
		head + `[{"name": "a", "version": "v2", "purl": "pkg:golang/a@v2", "licenses": [{}]}]}`: "a v1 is missing",
		head + `[{"name": "a", "version": "v1", "purl": "pkg:golang/a@v1"}]}`:                   "a v1 has no licence",
		head + `[{"name": "a", "version": "v1", "licenses": [{}]}]}`:                            "a has no package URL",
		`{}`: "no CycloneDX",
	} {
		err := compare([]byte(bill), []module{{path: "a", version: "v1"}})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bill, err, want)
		}
	}
}
