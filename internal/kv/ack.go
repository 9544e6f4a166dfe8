package kv

import "fmt"

// Ack says which nodes must have a mutation before it is acknowledged. A majority of the
// masters always must. Greater levels include the lesser ones.
type Ack uint8

const (
	// AckDefault is the node's level.
	AckDefault Ack = 0
	// AckAsync waits for no slave.
	AckAsync Ack = 1
	// AckSemiSync waits until each standby has received the mutation.
	AckSemiSync Ack = 2
	// AckSync waits until each standby has applied it and synced it to disk.
	AckSync Ack = 3
	// AckAll waits until every voting master and every listed slave that is not marked
	// down has applied it, too.
	AckAll Ack = 4
)

var ackNames = [...]string{"default", "async", "semi_sync", "sync", "all"}

func (a Ack) String() string {
	if int(a) < len(ackNames) {
		return ackNames[a]
	}
	return fmt.Sprintf("Ack(%d)", uint8(a))
}
