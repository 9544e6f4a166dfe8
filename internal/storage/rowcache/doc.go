// Package rowcache keeps whole pairs ("rows") that were read, so that reading a key again
// takes one look into a hash table instead of a search of the engine's memtables and files. A
// Cache is memory that any number of engines share; Rows is one engine's part in it.
//
// # What is promised
//
// A row that is found is what the engine itself would return at that moment. An engine with a
// row cache therefore behaves as one without, also towards readers that take another
// way (views, iterators, MultiGet): none of them can see a state and then an older one in a row.
//
// # The rules
//
// A reader looks for the row (Get). If there is none, it reads the engine and offers what it
// found (Add). A writer announces the keys of a batch (Write.Begin) before the engine gets it, and says
// when the engine has returned (Write.End), whether or not that wrote the batch. Each key belongs to a shard, which
// has a lock, a count of the writes that are under way, and a version. Each step holds the lock:
//
//   - R1: announcing a key removes its row. Without it, readers find the old value after the
//     write was acknowledged.
//   - R2: announcing changes the shard's version, and what was read after a miss at another
//     version is not added. Without it, a slow reader adds after the write what it read
//     before.
//   - R3: what was read after a miss while a write was under way is not added either. Without it,
//     a reader finds the version that the announcement left, reads the old value just before the
//     engine shows the new one, and adds it.
//   - R4: rows carry the number of their engine. A batch that deletes a range of keys hides all of
//     the engine's rows (its number is 0), since it cannot find those of the range, and at its end gives the
//     engine another number. Without the first, readers find deleted rows before the end; without
//     the second, after it. The last of several such batches gives the number: what was read
//     while any of them is under way may be old.
//   - R5: keys are announced also while rows are hidden, and the version belongs to the shard and not to
//     the number. Without it, a write that began meanwhile ends under a number whose readers do not
//     know of it.
//
// The test simulates readers and writers step by step, in random order, and holds every row
// that is found against the engine.
//
// # Memory
//
// The rows of a shard lie in a ring, each written behind the last one over the oldest ones, and a table
// of 8-byte slots says where. A row that is found in the oldest quarter of the ring is written once more, at the front: rows
// that are used stay. All of it is memory outside of Go's heap, which the collector would otherwise
// wait for before it runs, and the system provides a page of it only once it is used. Rows are found by a seeded hash, so that
// no choice of keys makes them collide, and their keys are compared in full.
package rowcache
