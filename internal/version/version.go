// Package version identifies the build that is running.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// stamped is the release, written by the linker:
//
//	go build -ldflags "-X github.com/dkvdb/dkv/internal/version.stamped=v1.2.3"
//
// Without the flag it is empty, and the version comes from the build information that
// the Go tool embeds.
var stamped string

// stampedRevision is the commit, written by the linker in the same way. It counts if the
// build information has none: an image is built from the files of a clone alone.
var stampedRevision string

// unknown stands for what the build information does not contain.
const unknown = "unknown"

// Info describes a build.
type Info struct {
	// Version is the release, such as v1.2.3, or "devel" for an unstamped
	// build of a working tree.
	Version string
	// Revision is the full hash of the commit, with "-dirty" appended when the
	// tree had uncommitted changes, or "unknown".
	Revision string
	// GoVersion is the Go release that compiled the program, such as go1.26.0.
	GoVersion string
}

// Get returns the description of the running program.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return describe(stamped, stampedRevision, build)
}

// String returns the running program's version in one word.
func String() string { return Get().Version }

// String returns all of it in one line.
func (i Info) String() string {
	return i.Version + " (revision " + i.Revision + ", " + i.GoVersion + ")"
}

// describe joins what is stamped with the embedded build information, which may be nil.
func describe(stamped, revision string, build *debug.BuildInfo) Info {
	info := Info{Version: stamped, Revision: unknown, GoVersion: runtime.Version()}
	if build == nil {
		build = &debug.BuildInfo{}
	}
	if info.Version == "" {
		info.Version = strings.Trim(build.Main.Version, "()") // "(devel)" in a working tree
	}
	if info.Version == "" {
		info.Version = "devel"
	}
	dirty := false
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && info.Revision != unknown {
		info.Revision += "-dirty"
	}
	if info.Revision == unknown && revision != "" {
		info.Revision = revision
	}
	return info
}
