package command

import (
	"bytes"
	"fmt"
)

// Slave is an entry of the list of slaves: a node that follows the change stream.
type Slave struct {
	// Zone may be empty, and contains no zero byte.
	Zone string
	// Address is host:port.
	Address string
}

// Append appends the slave as SetSlave carries it in Expect: zone, a zero byte,
// address. So the slaves of a zone are next to each other in the order of the bytes.
func (s Slave) Append(dst []byte) []byte {
	dst = append(dst, s.Zone...)
	dst = append(dst, 0)
	return append(dst, s.Address...)
}

// ParseSlave parses what Append wrote. The error is ErrMalformed.
func ParseSlave(p []byte) (Slave, error) {
	zone, address, ok := bytes.Cut(p, []byte{0})
	if !ok || len(address) == 0 || bytes.IndexByte(address, 0) >= 0 {
		return Slave{}, fmt.Errorf("%w: slave %.64q", ErrMalformed, p)
	}
	return Slave{Zone: string(zone), Address: string(address)}, nil
}
