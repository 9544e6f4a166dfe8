package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Action is what the program has to do, by its command line.
type Action uint8

// The actions. If a command line asks for several, the last one in this list wins.
const (
	// Run serves.
	Run Action = iota
	// Recover makes what is left of a cluster a master, or says what is left.
	Recover
	// RestoreFrom puts a backup into an empty data folder.
	RestoreFrom
	// CheckConfig checks the configuration.
	CheckConfig
	// PrintConfig prints the effective configuration.
	PrintConfig
	// ShowVersion prints the version.
	ShowVersion
	// ShowHelp prints all flags.
	ShowHelp
)

// Invocation is the result of reading a command line.
type Invocation struct {
	// Action is what the command line asks for.
	Action Action
	// Config is the effective, valid configuration; nil for ShowVersion and
	// ShowHelp, which need no valid configuration.
	Config *Config
	// Confirm is the token of --confirm, with Recover.
	Confirm string
	// Restore is what to restore, with RestoreFrom.
	Restore Restore

	host      Host
	args, env []string
}

// Restore is what the command line says of a restore.
type Restore struct {
	// From is the folder of the backup.
	From string
}

// Default returns the built-in defaults. Keys with a derived default are
// empty until Complete.
func Default() *Config {
	c := new(Config)
	for k := range newTable().all {
		if k.derived != "" {
			continue
		}
		if err := k.field(c).set(k.def); err != nil {
			panic("config: wrong default of " + k.name + ": " + err.Error()) // a mistake in the table
		}
	}
	return c
}

// Load reads the configuration of dkvsrv on this machine. args is the command line
// without the program's name, and env the environment as os.Environ returns it. The
// error is a *UsageError or a *ValueError: one line that says what is wrong and what
// to do.
func Load(args, env []string) (*Invocation, error) { return LoadOn(ThisHost(), args, env) }

// LoadOn is Load for a given host.
func LoadOn(host Host, args, env []string) (*Invocation, error) {
	t := newTable()
	line, err := parseArgs(t, args)
	if err != nil {
		return nil, err
	}
	inv := &Invocation{Action: line.action, Confirm: line.confirm, Restore: line.restore, host: host, args: args, env: env}
	if line.action >= ShowVersion {
		return inv, nil
	}
	vars := parseEnv(t, env)
	file, fromFile, err := readFile(t, host, line.file, vars.file)
	if err != nil {
		return nil, err
	}
	c := Default()
	c.file, c.notices, c.origins = file, vars.notices, make(map[string]Origin)
	for _, layer := range [][]setting{fromFile, vars.settings, line.settings} {
		if err := c.apply(layer); err != nil {
			return nil, err
		}
	}
	if err := c.Complete(host); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	inv.Config = c
	return inv, nil
}

// Typed returns the options of the command line without --confirm, to be typed again.
func (inv *Invocation) Typed() []string {
	var out []string
	for i := 0; i < len(inv.args); i++ {
		name, _, valued := strings.Cut(undashed(inv.args[i]), "=")
		switch {
		case i == 0 && inv.Action == Recover:
		case name != confirmFlag || inv.args[i][0] != '-':
			out = append(out, inv.args[i])
		case !valued:
			i++
		}
	}
	return out
}

// Reload reads the configuration again after SIGHUP: the same command line and
// environment, and the file as it is now. The running configuration does not
// change. The caller applies LogLevel; RestartNeeded returns the keys that need a
// restart.
func (inv *Invocation) Reload() (*Config, error) {
	again, err := LoadOn(inv.host, inv.args, inv.env)
	if err != nil {
		return nil, err
	}
	return again.Config, nil
}

// RestartNeeded returns the keys whose value in next differs and takes effect
// only when the program starts, in the order of the key table.
func (c *Config) RestartNeeded(next *Config) []string {
	var names []string
	for k := range newTable().all {
		derived := !c.IsSet(k.name) && !next.IsSet(k.name)
		if !derived && !k.has(reloads) && k.field(c).text() != k.field(next).text() {
			names = append(names, k.name)
		}
	}
	return names
}

// setting is one value, as written in one source.
type setting struct {
	key    *key
	text   string
	origin Origin
}

// apply stores settings in order, a later one replacing an earlier one.
func (c *Config) apply(settings []setting) error {
	for _, s := range settings {
		if err := s.key.field(c).set(s.text); err != nil {
			return &ValueError{Key: s.key.name, Origin: s.origin, Err: err}
		}
		c.origins[s.key.name] = s.origin
	}
	return nil
}

// named is a configuration file that the user named.
type named struct {
	path   string
	origin Origin
	given  bool
}

// readFile reads the file that the command line names, otherwise the one that the
// environment names, otherwise the first of the host's usual files that exists. It
// returns the name "" if there is none.
func readFile(t *table, host Host, requests ...named) (string, []setting, error) {
	for _, r := range requests {
		if !r.given {
			continue
		}
		data, err := os.ReadFile(r.path)
		if err != nil {
			return "", nil, &ValueError{Key: "config", Origin: r.origin, Err: unreadable(r.path, err)}
		}
		settings, err := parseYAML(t, r.path, data)
		return r.path, settings, err
	}
	for _, path := range host.Files {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, &ValueError{Err: unreadable(path, err)}
		}
		settings, err := parseYAML(t, path, data)
		return path, settings, err
	}
	return "", nil, nil
}

// unreadable returns the error of a configuration file that cannot be read.
func unreadable(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path is in the sentence already
	}
	return fmt.Errorf("cannot read the configuration file %q: %w; name a YAML file that this user may read", path, err)
}
