package command

import "sync/atomic"

// future is set in a process that behaves like a release to come; see Foresee.
var future atomic.Bool

// futureWrite is what the release to come has instead of Write, and futureFormat the format
// that adds it.
const (
	futureWrite  Kind = 63
	futureFormat      = NewestFormat + 1
)

// Foresee makes this process behave like a release to come that adds a format of the log,
// for tests of upgrades. In that format a Write has another number, which this release does
// not know.
func Foresee() (end func()) {
	future.Store(true)
	return func() { future.Store(false) }
}

// Newest returns the newest format that this release understands.
func Newest() uint32 {
	if future.Load() {
		return futureFormat
	}
	return NewestFormat
}

// ForLog gives an encoded command the form that it has in a log of a format.
func ForLog(encoded []byte, format uint32) {
	if future.Load() && format >= futureFormat && Kind(encoded[1]) == Write {
		encoded[1] = byte(futureWrite)
	}
}

// present returns the number that a kind of the release to come has in this one.
func (k Kind) present() Kind {
	if k == futureWrite && future.Load() {
		return Write
	}
	return k
}
