package bootstrap

// HasIdentity tells whether a folder is that of a cluster's member. Errors wrap
// ErrCorrupt.
func HasIdentity(dir string) (bool, error) {
	rec, _, err := file{dir: dir}.load()
	if err != nil {
		return false, err
	}
	return rec.isMember(), nil
}
