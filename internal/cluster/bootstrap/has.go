package bootstrap

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
