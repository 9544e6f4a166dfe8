package storage

// clearStep is how many keys are deleted with one batch.
const clearStep = 4096

// Clear deletes the keys of a range, a bounded batch at a time: engines limit a batch, and some count
// each key that a range delete finds. A crash leaves a part of them. The deletes are not durable yet.
func Clear(engine Engine, space Space, r Range) error {
	r.KeysOnly, r.Bulk = true, true
	it := engine.Iterate(space, r)
	defer it.Close()
	var b Batch
	for it.Next() {
		b.Delete(space, it.Key())
		if b.Count() < clearStep {
			continue
		}
		if err := engine.Write(&b, false); err != nil {
			return err
		}
		b.Reset()
	}
	if err := it.Err(); err != nil {
		return err
	}
	return engine.Write(&b, false)
}
