package bootstrap

import (
	"fmt"
	"time"
)

// HasIdentity reports whether a folder is that of a cluster's member. Errors wrap
// ErrCorrupt.
func HasIdentity(dir string) (bool, error) {
	rec, _, err := file{dir: dir}.load()
	if err != nil {
		return false, err
	}
	return rec.isMember(), nil
}

// StoredURL returns the Raft address of the member whose folder it is; empty if it is not
// a member's. Errors wrap ErrCorrupt.
func StoredURL(dir string) (string, error) {
	rec, _, err := file{dir: dir}.load()
	if err != nil || !rec.isMember() {
		return "", err
	}
	return rec.URL, nil
}

// Membership is what the folder of a member says of it.
type Membership struct {
	// ClusterName, Deployment and Replica are the cluster and the number in it.
	ClusterName         string
	Deployment, Replica uint64
	// URL is the Raft address, UUID the disk's id.
	URL, UUID string
	// Addresses are where members serve gRPC, by replica number, as far as they have said so.
	Addresses map[uint64]string
	// Starts is the number of starts, Start the random id of the last one.
	Starts, Start uint64
	// Unfit is why the cluster did not take the node any more; empty if it did.
	Unfit string
}

// MembershipOf returns the membership of a folder; false if it is not a member's. Errors wrap
// ErrCorrupt.
func MembershipOf(dir string) (Membership, bool, error) {
	f := file{dir: dir}
	rec, _, err := f.load()
	if err != nil || !rec.isMember() {
		return Membership{}, false, err
	}
	heard, _ := f.loadNotes() // a start collects them again as well if they cannot be read
	start := Past{UUID: rec.UUID, Number: rec.Starts, IDs: rec.StartIDs}.Last()
	m := Membership{
		ClusterName: rec.ClusterName, Deployment: rec.Deployment, Replica: rec.Replica,
		URL: rec.URL, UUID: rec.UUID, Addresses: heard.Addresses, Starts: start.Number, Start: start.ID,
	}
	switch {
	case !rec.Removed.IsZero():
		m.Unfit = fmt.Sprintf("its cluster removed it, as it noticed at %s", rec.Removed.Format(time.RFC3339))
	case rec.Retired != "":
		m.Unfit = "its disk was found to be an older copy: " + rec.Retired
	}
	return m, true, nil
}
