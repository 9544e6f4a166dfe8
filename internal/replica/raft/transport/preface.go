package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/internal/crc"
)

// A connection begins with a preface, which the other end answers:
//
//	magic       4 bytes
//	version     1
//	purpose     1
//	zero        2
//	deployment  8, big endian
//	CRC-32C     4
//
// The answer has the same magic, the version that the other end speaks, a refusal (0 for
// none) in place of the purpose, two zeros and a CRC-32C.
const (
	prefaceSize = 20
	answerSize  = 12
	// recordHandshake is how TLS begins.
	recordHandshake = 22
	// version counts the ways in which connections go on behind the preface.
	version = 1
)

var (
	magic = [4]byte{'D', 'K', 'V', 'r'}
	// dragonboat is how a message of Dragonboat's own transport begins, which releases
	// before this one used.
	dragonboat = [2]byte{0xAE, 0x7D}
)

// purpose is what a connection is for.
type purpose byte

const (
	forMessages purpose = iota + 1
	forSnapshot
)

// refusal is why a connection is not taken.
type refusal byte

const (
	accepted refusal = iota
	otherDeployment
	otherVersion
	tooMany
)

// grpcPreface is what a gRPC connection begins with, and errLateInvitation the error of one.
// The port takes gRPC calls, such as invitations, until the node is a member. Who called it
// then may reconnect once more.
var (
	grpcPreface       = []byte("PRI ")
	errLateInvitation = errors.New("it makes gRPC calls, which this port takes only before the node is a member")
)

type preface struct {
	version    byte
	purpose    purpose
	deployment uint64
}

func (p preface) encode() []byte {
	out := append(make([]byte, 0, prefaceSize), magic[:]...)
	out = append(out, p.version, byte(p.purpose), 0, 0)
	out = binary.BigEndian.AppendUint64(out, p.deployment)
	return binary.BigEndian.AppendUint32(out, crc.Sum(out))
}

// readPreface reads what a connection begins with. It looks at the first bytes before it
// waits for others: what is not a member's is recognised by them.
func readPreface(r io.Reader) (preface, error) {
	var p [prefaceSize]byte
	if _, err := io.ReadFull(r, p[:len(magic)]); err != nil {
		return preface{}, fmt.Errorf("nothing that can be recognised came: %w", err)
	}
	switch {
	case [2]byte(p[:2]) == dragonboat:
		return preface{}, errors.New("it speaks the Raft transport of an older release; stop the cluster, upgrade that node and start it again")
	case p[0] == recordHandshake:
		return preface{}, errors.New("it speaks TLS, which is off here; set tls-mode: permissive here first, and on the other nodes when all have it")
	case bytes.HasPrefix(p[:], grpcPreface):
		return preface{}, errLateInvitation
	case !bytes.Equal(p[:len(magic)], magic[:]):
		return preface{}, fmt.Errorf("it begins with %x, which is not DKV's Raft transport", p[:len(magic)])
	}
	if _, err := io.ReadFull(r, p[len(magic):]); err != nil {
		return preface{}, fmt.Errorf("the preface is cut short: %w", err)
	}
	const end = prefaceSize - 4
	if binary.BigEndian.Uint32(p[end:]) != crc.Sum(p[:end]) {
		return preface{}, errors.New("the preface fails its checksum")
	}
	return preface{version: p[4], purpose: purpose(p[5]), deployment: binary.BigEndian.Uint64(p[8:])}, nil
}

func encodeAnswer(r refusal) []byte {
	out := append(make([]byte, 0, answerSize), magic[:]...)
	out = append(out, version, byte(r), 0, 0)
	return binary.BigEndian.AppendUint32(out, crc.Sum(out))
}

// introduce sends a preface and reads the answer.
func introduce(conn net.Conn, p preface, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(p.encode()); err != nil {
		return err
	}
	var a [answerSize]byte
	_, err := io.ReadFull(conn, a[:])
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("it closes the connection instead of answering; it is a node of an older release (upgrade it), requires TLS (see tls-mode), is shutting down, or is no DKV node")
	case err != nil:
		return fmt.Errorf("it does not answer: %w", err)
	}
	const end = answerSize - 4
	if [4]byte(a[:4]) != magic || binary.BigEndian.Uint32(a[end:]) != crc.Sum(a[:end]) {
		return fmt.Errorf("it answers %x, which is not DKV's Raft transport", a)
	}
	if err := refusal(a[5]).of(a[4]); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// of is what a refusal by a node that speaks a version means; nil if it is none.
func (r refusal) of(spoken byte) error {
	switch r {
	case accepted:
		return nil
	case otherDeployment:
		return errors.New("it belongs to another cluster; check the addresses of the members")
	case otherVersion:
		return fmt.Errorf("it speaks version %d of the Raft transport and this node version %d; upgrade the older one", spoken, version)
	case tooMany:
		return errors.New("it has too many Raft connections at present")
	}
	return fmt.Errorf("it refuses the connection with code %d, which this release does not know", r)
}
