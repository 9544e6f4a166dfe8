package replication

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// SlaveExpiry is how long a slave stays on the list without being heard from.
	SlaveExpiry = 5 * time.Minute
	// SlaveRenewal is how often a slave renews its entry.
	SlaveRenewal = time.Minute
	// slaveRenewed is how old an entry must be for its renewal to be worth a log entry.
	slaveRenewed = SlaveRenewal / 2
)

// unknownAge is the age of an entry without a usable time: it was made by a release that kept
// no times, or the log's clock was set back since.
const unknownAge = time.Duration(-1)

// ageOf is how long before now, by the log's clock, an entry was renewed.
func ageOf(slave fsm.ListedSlave, now time.Time) time.Duration {
	age := now.Sub(slave.Renewed.Time())
	if slave.Renewed == 0 || age < -SlaveRenewal {
		return unknownAge
	}
	return max(age, 0)
}

// expired reports whether an entry should be removed from the list. An entry of unknown age is
// renewed first, and none expires while this node listens, as it will if the log's clock has jumped
// since the last check.
func (s *Service) expired(slave fsm.ListedSlave, now time.Time) bool {
	return ageOf(slave, now) > SlaveExpiry && time.Now().After(*s.listensUntil.Load()) && !s.jumped(now)
}

// jumped reports whether the log's clock has jumped between the last check of the list and now.
func (s *Service) jumped(now time.Time) bool {
	last := s.checked.Load()
	return last != nil && now.Sub(*last) > slaveRenewed
}

// listens begins to listen.
func (s *Service) listens() {
	until := time.Now().Add(s.listenFor)
	s.listensUntil.Store(&until)
}

const (
	maxZone = 255
	// maxHostname is the longest name that DNS has.
	maxHostname = 253
	maxPort     = 65535
)

// slaveOf checks and converts the description of a slave.
func slaveOf(r *serverpb.Replica) (command.Slave, error) {
	host, port := r.GetHostname(), r.GetPort()
	switch {
	case len(r.GetZone()) > maxZone || strings.ContainsFunc(r.GetZone(), unicode.IsControl):
		return command.Slave{}, kv.Errorf(kv.Invalid, "zone %.64q is not a valid name; use up to %d bytes without control characters", r.GetZone(), maxZone)
	case host == "":
		return command.Slave{}, kv.Errorf(kv.Invalid, "hostname is empty; say where the slave serves")
	case len(host) > maxHostname || strings.ContainsFunc(host, noHostname):
		return command.Slave{}, kv.Errorf(kv.Invalid, "hostname %.64q is neither a name nor an address", host)
	case isNowhere(host):
		return command.Slave{}, kv.Errorf(kv.Invalid, "hostname %.64q is not the address of one host; say where clients reach the slave", host)
	case port == 0 || port > maxPort:
		return command.Slave{}, kv.Errorf(kv.Invalid, "port %d is not a valid port; ports go from 1 to %d", port, maxPort)
	}
	return command.Slave{Zone: r.GetZone(), Address: net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))}, nil
}

// noHostname reports whether a character can be neither in a name nor in an address.
func noHostname(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	default:
		return !strings.ContainsRune(".-_:%", r) // with those of IPv6 addresses and their zones
	}
}

// isNowhere reports whether host is an address that no host can be dialled at, such as
// the unspecified one.
func isNowhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.ContainsAny(host, ":%") // only addresses have these
	}
	return ip.IsUnspecified() || ip.IsMulticast()
}

// replicaOf converts back what slaveOf returned.
func replicaOf(s command.Slave) *serverpb.Replica {
	out := &serverpb.Replica{Zone: s.Zone, Hostname: s.Address}
	if host, text, err := net.SplitHostPort(s.Address); err == nil {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			out.Hostname, out.Port = host, uint32(port)
		}
	}
	return out
}
