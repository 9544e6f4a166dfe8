package node

import (
	"context"

	"github.com/dkvdb/dkv/internal/auth/identify"
)

// openAuth opens the file of identities, if there is one, and has it read again at SIGHUP
// and when it changes.
func (n *Node) openAuth() error {
	path := n.Config.Security.AuthFile
	if path == "" {
		return nil
	}
	f, err := identify.Open(path, identify.Options{NodeName: n.Certs.NodeName(), Log: n.Log})
	if err != nil {
		return err
	}
	n.Auth, n.identities = f, f
	n.Collectors = append(n.Collectors, f)
	n.OnReload(func() { _ = f.Reload() }) // it has logged the error
	n.RunBeside(f.Run)
	return nil
}

// AuthFailure is what is wrong with the file of identities; nil for nothing.
func (n *Node) AuthFailure() error {
	if n.identities == nil {
		return nil
	}
	return n.identities.Failure()
}

// OnReload has f called at each SIGHUP. It may only be called while the node is made.
func (n *Node) OnReload(f func()) { n.reloaders = append(n.reloaders, f) }

// Reload calls what was given to OnReload.
func (n *Node) Reload() {
	for _, f := range n.reloaders {
		f()
	}
}

// RunBeside has run called while the node serves and stops; its error stops the node. It may
// only be called while the node is made.
func (n *Node) RunBeside(run func(context.Context) error) { n.beside = append(n.beside, run) }

// Beside is what was given to RunBeside.
func (n *Node) Beside() []func(context.Context) error { return n.beside }
