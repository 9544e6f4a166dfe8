package offline

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/storage"
)

// RequestImport replaces the remembered requests in an engine.
type RequestImport struct {
	engine  storage.Engine
	cleared bool
}

// ImportRequests begins to replace the remembered requests in engine with those that
// fsm.Machine.ExportRequests has returned elsewhere. Until Finish a crash leaves a part of them: the
// import has to be repeated.
func ImportRequests(engine storage.Engine) *RequestImport { return &RequestImport{engine: engine} }

// Add adds what one call of yield has got. The error is a
// chunks.ErrBadSnapshot if that is malformed.
func (i *RequestImport) Add(records []byte) error {
	if err := i.clear(); err != nil {
		return err
	}
	var b storage.Batch
	for p := records; len(p) > 0; {
		r, rest, ok := chunks.Take(p)
		if !ok || r.Space != storage.Meta || !requests.Owns(r.Key) {
			return fmt.Errorf("%w: malformed record of a request", chunks.ErrBadSnapshot)
		}
		b.Put(r.Space, r.Key, r.Value)
		p = rest
	}
	return i.write(&b, false)
}

// Finish completes the import and makes it durable.
func (i *RequestImport) Finish() error {
	if err := i.clear(); err != nil {
		return err
	}
	if err := i.write(new(storage.Batch), true); err != nil {
		return err
	}
	if _, err := requests.Load(i.engine, requests.DefaultBounds()); err != nil {
		return fmt.Errorf("import remembered requests: %w", err)
	}
	return nil
}

// clear drops the requests in the engine, once.
func (i *RequestImport) clear() error {
	if i.cleared {
		return nil
	}
	if err := requests.Clear(i.engine); err != nil {
		return fmt.Errorf("import remembered requests: %w", err)
	}
	i.cleared = true
	return nil
}

func (i *RequestImport) write(b *storage.Batch, sync bool) error {
	if err := i.engine.Write(b, sync); err != nil {
		return fmt.Errorf("import remembered requests: %w", err)
	}
	return nil
}
