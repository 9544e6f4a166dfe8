package config

// PathsBesideLog returns the files and folders that the configuration names, but for those of the
// Raft log: what must stay where it is if the log is moved.
func (c *Config) PathsBesideLog() (paths []string) {
	if c.file != "" {
		paths = append(paths, c.file)
	}
	for k := range newTable().all {
		v := k.field(c)
		path := v.text()
		if v.kind() != (pathValue{}).kind() || path == "" || k.has(obsolete) || k.name == "nexus-log-dir" || k.name == "access-log" && path == CommonLog {
			continue
		}
		paths = append(paths, path)
	}
	return paths
}
