package record

import (
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// Bounds of what a record may hold.
const (
	maxName = 255
	// maxAddress is the longest name that DNS has, a colon and a port.
	maxAddress   = 253 + 1 + 5
	maxID        = 64
	maxStandbys  = 64
	maxAddresses = 64
	// MinLease is the shortest lease: a quarter of it has to be enough for a round trip to
	// the registry, and a change of its owner must not end it.
	MinLease = time.Second
	// MaxLease bounds for how long a database may have to wait for its next masters.
	MaxLease = 24 * time.Hour
)

// text is a part of a request with its bound.
type text struct {
	name, value string
	max         int
	needed      bool
}

func checkTexts(texts ...text) error {
	for _, t := range texts {
		switch {
		case t.needed && t.value == "":
			return kv.Errorf(kv.Invalid, "%s is empty", t.name)
		case len(t.value) > t.max:
			return kv.Errorf(kv.Invalid, "%s has %d bytes, of which at most %d are allowed", t.name, len(t.value), t.max)
		}
		for i := range len(t.value) {
			if t.value[i] < ' ' || t.value[i] == 0x7f {
				return kv.Errorf(kv.Invalid, "%s %q contains a control character", t.name, t.value)
			}
		}
	}
	return nil
}

func database(name string) text { return text{"database", name, maxName, true} }

// checkAll checks a list of texts that are needed each.
func checkAll(name string, list []string, most, size int) error {
	if len(list) > most {
		return kv.Errorf(kv.Invalid, "%s has %d entries, of which at most %d are allowed", name, len(list), most)
	}
	for _, one := range list {
		if err := checkTexts(text{name, one, size, true}); err != nil {
			return err
		}
	}
	return nil
}

func checkLease(millis uint64) error {
	if millis == 0 || millis >= uint64(MinLease.Milliseconds()) && millis <= uint64(MaxLease.Milliseconds()) {
		return nil
	}
	return kv.Errorf(kv.Invalid, "leaseMillis is %d: leases last between %v and %v, or 0 if masters need none", millis, MinLease, MaxLease)
}

func checkRenew(r *peerpb.RenewRequest) error {
	return checkTexts(database(r.GetDatabase()), text{"deployment", r.GetDeployment(), maxID, true}, text{"address", r.GetAddress(), maxAddress, false})
}

func checkChange(r *peerpb.ChangeRecordRequest) error {
	in := r.GetRecord()
	if in == nil {
		return kv.Errorf(kv.Invalid, "the request has no record: send what it becomes")
	}
	err := checkTexts(database(in.GetDatabase()), text{"deployment", in.GetDeployment(), maxID, true}, text{"history", in.GetHistory(), maxID, false})
	if err == nil {
		err = checkLease(in.GetLeaseMillis())
	}
	if err == nil {
		err = checkAll("leaving", r.GetLeaving(), maxStandbys, maxID)
	}
	if err == nil {
		err = checkAll("addresses", in.GetAddresses(), maxAddresses, maxAddress)
	}
	if err == nil && len(in.GetStandbys()) > maxStandbys {
		err = kv.Errorf(kv.Invalid, "standbys has %d entries, of which at most %d are allowed", len(in.GetStandbys()), maxStandbys)
	}
	for i, n := range in.GetStandbys() {
		if err != nil {
			break
		}
		err = checkTexts(text{"standbys.disk", n.GetDisk(), maxID, true}, text{"standbys.address", n.GetAddress(), maxAddress, true})
		for _, other := range in.GetStandbys()[:i] {
			if err == nil && other.GetDisk() == n.GetDisk() {
				err = kv.Errorf(kv.Invalid, "disk %q is a standby twice", n.GetDisk())
			}
		}
	}
	return err
}

func checkClaim(r *peerpb.ClaimRequest) error {
	err := checkTexts(database(r.GetDatabase()), text{"promotion", r.GetPromotion(), maxID, true}, text{"history", r.GetHistory(), maxID, true})
	if err == nil {
		err = checkAll("disks", r.GetDisks(), maxStandbys, maxID)
	}
	if err == nil {
		err = checkAll("addresses", r.GetAddresses(), maxAddresses, maxAddress)
	}
	if err == nil {
		err = checkLease(r.GetLeaseMillis())
	}
	if err == nil && r.GetBecomes() > 0 && !r.GetForce() {
		err = kv.Errorf(kv.Invalid, "becomes is %d, which needs force", r.GetBecomes())
	}
	return err
}
