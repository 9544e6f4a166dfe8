package config

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/testkit/man"
)

// TestReferenceIsTheManualPage: deploy/man/dkvsrv.8 says what the table of keys says.
func TestReferenceIsTheManualPage(t *testing.T) {
	p := man.New("dkvsrv", 8, "serve a distributed key-value store")
	p.Section("Synopsis")
	p.Synopsis("dkvsrv", "[recover] [--config FILE] [--KEY VALUE | --KEY=VALUE]...")
	p.Section("Description")
	for paragraph := range strings.SplitSeq(helpHead, "\n\n") {
		if !strings.HasPrefix(paragraph, "Usage:") {
			p.Text(strings.TrimSpace(paragraph))
		}
	}
	p.Section("Options")
	p.Entry("-c, --config FILE", "configuration file")
	for _, a := range actionFlags {
		if a.doc != "" {
			p.Entry("--"+a.name, a.doc)
		}
	}
	p.Entry(recoverCommand, recoverDoc)
	p.Entry("--"+confirmFlag+" TOKEN", confirmDoc)
	for _, f := range restoreFlags {
		p.Entry("--"+f.name+" "+f.takes, f.doc)
	}
	p.Section("Keys")
	for _, g := range newTable().groups {
		p.Part(g.title)
		for _, k := range g.keys {
			p.Entry(strings.TrimSpace("--"+k.name+" "+k.field(new(Config)).kind()), k.doc+" "+k.defaultText())
		}
	}
	p.Section("Signals")
	p.Entry("SIGTERM, SIGINT", "finish the requests under way, and exit with 0")
	p.Entry("SIGHUP", "read the log level, the certificates and the auth-file again")
	p.Section("Exit status")
	p.Entry("0", "stopped by a signal")
	p.Entry("1", "an error, which the last line on standard error names")
	p.Entry("2", "wrong usage")
	p.Section("Files")
	p.Entry("./dkvsrv.yaml, /etc/default/dkvsrv.yaml", "the configuration, if --config does not name one")
	p.Entry("/etc/dkv/dkvsrv.yaml", "the configuration of the systemd unit")
	p.Entry("/var/lib/dkv", "the working directory of the systemd unit, and so the parent of root-folder")
	p.Section("See also")
	p.Text("dkvctl(1)")
	p.Check(t, "../../deploy/man/dkvsrv.8", *update)
}
