package e2e

import (
	"time"

	"github.com/dkvdb/dkv/internal/testkit/process"
)

// node is a dkvsrv process.
type node struct {
	*process.Process
	grpc, http string
}

// commandTimeout bounds a command that ends by itself.
const commandTimeout = 60 * time.Second

// start runs dkvsrv and waits until it serves. Its log goes to a file.
func start(path, logPath, dir string, env, args []string) (*node, error) {
	n, err := launch(path, logPath, dir, env, args)
	if err != nil {
		return nil, err
	}
	if err := n.await(); err != nil {
		return nil, err
	}
	return n, nil
}

// launch runs dkvsrv, which may wait for others before it serves.
func launch(path, logPath, dir string, env, args []string) (*node, error) {
	p, err := process.Start(process.Options{Program: path, Log: logPath, Dir: dir, Env: env, Args: args})
	if err != nil {
		return nil, err
	}
	return &node{Process: p}, nil
}

// await waits until the node serves, and kills it if it does not.
func (n *node) await() error {
	at, err := n.Await()
	if err != nil {
		n.Kill()
		return err
	}
	n.grpc, n.http = at.GRPC, at.HTTP
	return nil
}
