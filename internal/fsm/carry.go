package fsm

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/requests"
	"github.com/dkvdb/dkv/internal/storage"
)

// requestStep is how many bytes of remembered requests travel together.
const requestStep = 1 << 20

// ExportRequests calls yield with the remembered requests of one state, as the records of
// chunks, until it returns an error. The bytes are valid until yield returns.
func (m *Machine) ExportRequests(ctx context.Context, yield func(records []byte) error) error {
	v, err := m.View()
	if err != nil {
		return err
	}
	defer v.Close()
	c := chunk{limit: requestStep}
	send := func() error {
		if err := ctx.Err(); err != nil || len(c.payload) == 0 {
			return err
		}
		defer func() { c.payload = c.payload[:0] }()
		return yield(c.payload)
	}
	for _, prefix := range requests.Prefixes() {
		it := v.walk(storage.Meta, storage.Prefix(prefix))
		for err == nil && it.next() {
			if c.add(storage.Meta, it.key, it.value) {
				continue
			}
			if err = send(); err == nil {
				c.add(storage.Meta, it.key, it.value)
			}
		}
		it.close()
		if err == nil {
			err = m.note(it.err)
		}
		if err != nil {
			return fmt.Errorf("export the remembered requests: %w", err)
		}
	}
	return send()
}

// RequestImport replaces the remembered requests in an engine that no machine has open.
type RequestImport struct {
	engine  storage.Engine
	cleared bool
}

// ImportRequests begins to replace the remembered requests in engine with those that
// ExportRequests has returned elsewhere. Until Finish a crash leaves a part of them: the
// import has to be repeated.
func ImportRequests(engine storage.Engine) *RequestImport { return &RequestImport{engine: engine} }

// Add adds what one call of yield has got. The error is an ErrBadSnapshot if that is malformed.
func (i *RequestImport) Add(records []byte) error {
	var b storage.Batch
	i.clear(&b)
	for p := records; len(p) > 0; {
		space := storage.Space(p[0])
		key, rest, ok := takeField(p[1:])
		var value []byte
		if ok {
			value, rest, ok = takeField(rest)
		}
		if !ok || space != storage.Meta || !requests.Owns(key) {
			return fmt.Errorf("%w: malformed record of a request", ErrBadSnapshot)
		}
		b.Put(space, key, value)
		p = rest
	}
	return i.write(&b, false)
}

// Finish completes the import and makes it durable.
func (i *RequestImport) Finish() error {
	var b storage.Batch
	i.clear(&b)
	if err := i.write(&b, true); err != nil {
		return err
	}
	if _, err := requests.Load(i.engine, requests.DefaultBounds()); err != nil {
		return fmt.Errorf("import remembered requests: %w", err)
	}
	return nil
}

func (i *RequestImport) clear(b *storage.Batch) {
	if !i.cleared {
		requests.Clear(b)
		i.cleared = true
	}
}

func (i *RequestImport) write(b *storage.Batch, sync bool) error {
	if err := i.engine.Write(b, sync); err != nil {
		return fmt.Errorf("import remembered requests: %w", err)
	}
	return nil
}
