package app

import (
	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// openAccessLog opens the access log; it is nil if there is none.
func (a *app) openAccessLog() (*accesslog.Log, error) {
	cfg := &a.node.Config.Log
	if cfg.Access == "" {
		return nil, nil
	}
	o := accesslog.Options{
		File: cfg.Access, MaxSize: int64(cfg.AccessSize), Files: cfg.AccessFiles, JSON: cfg.Format == config.LogJSON,
		Node: a.node.Config.Node.Name, Database: a.node.Layout.Database, Common: a.node.Log,
	}
	if cfg.Access == config.CommonLog {
		// The last events in memory are for people, who would find nothing else among them.
		o.File, o.Common = "", telemetry.Unkept(a.node.Log)
	}
	l, err := accesslog.New(o)
	if err != nil {
		return nil, err
	}
	a.node.OnClose(l.Close)
	a.node.OnReload(func() {
		if err := l.Reopen(); err != nil {
			a.node.Log.Error("reload: the access log cannot be opened again; the file that is open stays in use", "error", err)
		}
	})
	return l, a.metrics.Register(l)
}
