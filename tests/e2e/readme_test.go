package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shown returns the first code block of a language in a document.
func shown(t *testing.T, document, language string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../..", document))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(raw), "```"+language+"\n")
	code, _, ended := strings.Cut(after, "```\n")
	if !found || !ended {
		t.Fatalf("%s shows no program in %s", document, language)
	}
	return code
}

// TestReadmeGo builds the Go program of the README and runs it against a node.
func TestReadmeGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(shown(t, "README.md", "go")), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "hello"), source)
	build.Dir = "../.." // the module that it imports
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, out)
	}
	n := newFixture(t, dir)
	out, err := exec.Command(filepath.Join(dir, "hello"), n.grpc).CombinedOutput()
	if err != nil || string(out) != "world\nhello => world\n" {
		t.Errorf("%v, and it prints:\n%s", err, out)
	}
}

// TestReadmeJava checks that the README and the Java client's README show the same
// program, which the Java client's tests compile and run.
func TestReadmeJava(t *testing.T) {
	if shown(t, "README.md", "java") != shown(t, "clients/java/README.md", "java") {
		t.Error("README.md and clients/java/README.md show different programs")
	}
}

// TestReadmeJavaCoordinates checks that the dependency in the documents is that of the
// Java client's pom.xml.
func TestReadmeJavaCoordinates(t *testing.T) {
	pom, err := os.ReadFile("../../clients/java/pom.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{"README.md", "clients/java/README.md"} {
		dependency := shown(t, document, "xml")
		for _, tag := range []string{"groupId", "artifactId", "version"} {
			own := regexp.MustCompile("<" + tag + ">.*</" + tag + ">").Find(pom) // the first is the project's
			if own == nil || !strings.Contains(dependency, string(own)) {
				t.Errorf("%s does not show %s", document, own)
			}
		}
	}
}

// TestReadmeSecureCluster checks that testdata/secure.txtar runs the commands with which
// the README makes the files of a secure cluster, and starts nodes with what
// scripts/cluster.sh gives them.
func TestReadmeSecureCluster(t *testing.T) {
	read := func(file string) string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	script := read("testdata/secure.txtar")
	_, section, _ := strings.Cut(read("../../README.md"), "### A secure cluster\n")
	section, _, _ = strings.Cut(section, "\n### ")
	commands := regexp.MustCompile(`(?m)^\./bin/(dkvctl -(?:certs|token new) .*)$`).FindAllStringSubmatch(section, -1)
	if len(commands) < 4 {
		t.Errorf("the README has %d commands for the files of a secure cluster", len(commands))
	}
	for _, c := range commands {
		if !strings.Contains(script, "\nrun 0 "+c[1]+"\n") {
			t.Errorf("secure.txtar does not run %s", c[1])
		}
	}
	launcher := strings.ReplaceAll(read("../../scripts/cluster.sh"), `"$1/`, `"certs/`)
	for _, f := range regexp.MustCompile(`--(?:tls|auth)[a-z-]*-file \S+`).FindAllString(script, -1) {
		key, file, _ := strings.Cut(f, " ")
		if !strings.Contains(launcher, key+` "`+file+`"`) {
			t.Errorf("cluster.sh does not start nodes with %s", f)
		}
	}
}
