package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeJava lists the libraries in a list of Maven's, with the licences that their POMs
// name.
func writeJava(out io.Writer, list string) error {
	raw, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	repository := filepath.Join(home, ".m2", "repository")
	fmt.Fprintf(out, "\n%s\n\n", javaTitle)
	var lines []string
	for line := range strings.Lines(string(raw)) {
		group, artifact, version, ok := artifactIn(line)
		if !ok {
			continue
		}
		licence, err := pomLicence(repository, group, artifact, version)
		if err != nil {
			return fmt.Errorf("%s:%s: %w", group, artifact, err)
		}
		lines = append(lines, fmt.Sprintf("  %-62s %s", group+":"+artifact+" "+version, licence))
	}
	if len(lines) == 0 {
		return fmt.Errorf("%s lists no libraries", list)
	}
	slices.Sort(lines)
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// artifactIn parses "   group:artifact:jar:version:scope -- module ..."; there may be a
// classifier before the version.
func artifactIn(line string) (group, artifact, version string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return "", "", "", false
	}
	parts := strings.Split(fields[0], ":")
	if len(parts) < 5 || parts[2] != "jar" {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[len(parts)-2], true
}

// pom is what is needed of a POM.
type pom struct {
	Licences []string `xml:"licenses>license>name"`
	Parent   struct {
		Group    string `xml:"groupId"`
		Artifact string `xml:"artifactId"`
		Version  string `xml:"version"`
	} `xml:"parent"`
}

// pomLicence returns the licences that a POM or the nearest of its parents names.
func pomLicence(repository, group, artifact, version string) (string, error) {
	for artifact != "" {
		path := filepath.Join(repository, filepath.Join(strings.Split(group, ".")...), artifact, version, artifact+"-"+version+".pom")
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		var p pom
		if err := xml.Unmarshal(raw, &p); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		if len(p.Licences) > 0 {
			return strings.Join(p.Licences, ", "), nil
		}
		group, artifact, version = p.Parent.Group, p.Parent.Artifact, p.Parent.Version
	}
	return "", fmt.Errorf("its POM names no licence")
}
