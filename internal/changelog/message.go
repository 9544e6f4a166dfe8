package changelog

import "github.com/dkvdb/dkv/internal/kv"

// MessageOverhead is the most that a mutation of a change takes in a message around its key
// and value.
const MessageOverhead = 32

// MessageBytes is the most that a change with these mutations takes in a message.
func MessageBytes(ms []kv.Mutation) int {
	n := len(ms) * MessageOverhead
	for i := range ms {
		n += len(ms[i].Key) + len(ms[i].Value)
	}
	return n
}
