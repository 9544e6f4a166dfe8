package recovery

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// Run lists what a stopped member has left of its cluster, and the command that recovers it; or does
// that, if the token of the list is given. typed are the options of the command line, which that has
// again.
func Run(cfg *config.Config, token string, typed []string, log *slog.Logger, out io.Writer) error {
	return run(cfg, token, typed, log, out, func(string) error { return nil })
}

func run(configured *config.Config, token string, typed []string, log *slog.Logger, out io.Writer, after func(step string) error) error {
	cfg, part, err := folder(configured)
	if err != nil {
		return err
	}
	if r := part.Promotion; r != nil && r.Step == promotion.Recovering {
		if token != r.Recovery.Token {
			return begun(r, token, typed, out)
		}
		return act(&recovery{cfg: cfg, log: log, record: r, after: after}, out)
	}
	if r := part.Promotion; r != nil && r.Recovery != nil && r.Recovery.Token == token {
		return write(out, fmt.Sprintf("This folder is recovered already, as the only master of era %d: start its node.", r.Era))
	}
	p, err := look(cfg, part, log)
	if err != nil {
		return err
	}
	now, err := p.token()
	switch {
	case err != nil:
		return err
	case token == "":
		return write(out, append(p.lines(cfg.Storage.DBFolder, cfg.Node.Database),
			"", "Nothing was changed. If no majority of these members can come back, keep a copy of the folder, and type:", "", "  "+again(now, typed))...)
	case token != now:
		return fmt.Errorf("--confirm %s is not the token of what is in db-folder %s now: it is another folder, or has changed since that was listed; list it again with dkvsrv recover", token, cfg.Storage.DBFolder)
	}
	r := &recovery{cfg: cfg, log: log, record: recordOf(p, now, part.Promotion), after: after}
	if err := r.record.Write(cfg.Storage.DBFolder); err != nil {
		return err
	}
	if err := after("decided"); err != nil {
		return err
	}
	return act(r, out)
}

// begun says how a recovery that has begun is completed.
func begun(r *promotion.Record, token string, typed []string, out io.Writer) error {
	line := again(r.Recovery.Token, typed)
	if token != "" {
		return fmt.Errorf("a recovery with another token has begun and is not complete; complete it: %s", line)
	}
	return write(out, fmt.Sprintf("A recovery of this folder, as era %d, has begun and is not complete. Nothing of it is served before it is. Type:", r.Era), "", "  "+line)
}

// act carries a recovery out and says what is to be done next.
func act(r *recovery, out io.Writer) error {
	if err := r.run(); err != nil {
		return fmt.Errorf("%w; the recovery is not complete, and nothing in the folder is served before it is: type the same again", err)
	}
	lines := []string{fmt.Sprintf("Recovered: db-folder %s is that of the only master of era %d, history %s.", r.dir(), r.record.Era, r.record.History)}
	for _, name := range r.node.Layout.VBuckets {
		cut := r.record.Cuts[name]
		lines = append(lines, fmt.Sprintf("  vBucket %s: history %s has ended at index %d", name, cut.Former, cut.End))
	}
	return write(out, append(lines,
		"What was there before is in "+r.dir()+"/"+r.aside()+".",
		"Start the node as before (role master, nexus-node-url "+r.record.Recovery.URL+"; nexus-cluster-url has no effect any more), look at the data, and add others (dkvctl -addNode).")...)
}

func write(out io.Writer, lines ...string) error {
	_, err := io.WriteString(out, strings.Join(lines, "\n")+"\n")
	if err != nil {
		return errors.Join(errors.New("what was found cannot be written"), err)
	}
	return nil
}
