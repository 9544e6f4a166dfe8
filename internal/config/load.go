package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Action is what a command line asks the program to do.
type Action uint8

// The actions; where a command line asks for several, the last of this list
// wins.
const (
	// Run serves.
	Run Action = iota
	// CheckConfig says whether the configuration is valid.
	CheckConfig
	// PrintConfig prints the effective configuration.
	PrintConfig
	// ShowVersion prints the version.
	ShowVersion
	// ShowHelp prints all flags.
	ShowHelp
)

// Invocation is a command line, understood.
type Invocation struct {
	// Action is what was asked for.
	Action Action
	// Config is the effective, valid configuration; nil for ShowVersion and
	// ShowHelp, which work whatever the configuration is.
	Config *Config

	host      Host
	args, env []string
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

// Load reads the configuration of dkvsrv on this machine from args, the
// command line without the program's name, and env, "NAME=value" each as
// os.Environ returns them. The error is a *UsageError or a *ValueError, one
// line that says what is wrong and what to do.
func Load(args, env []string) (*Invocation, error) { return LoadOn(ThisHost(), args, env) }

// LoadOn is Load on a given host.
func LoadOn(host Host, args, env []string) (*Invocation, error) {
	t := newTable()
	line, err := parseArgs(t, args)
	if err != nil {
		return nil, err
	}
	inv := &Invocation{Action: line.action, host: host, args: args, env: env}
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

// Reload reads everything again, as SIGHUP asks for: the same command line and
// environment, and the file as it is now. The running configuration does not
// change; the caller takes over LogLevel, and RestartNeeded tells what has to
// wait.
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

// setting is one value, as one source wrote it.
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

// named is a configuration file that somebody asked for.
type named struct {
	path   string
	origin Origin
	given  bool
}

// readFile reads the file that the command line names, or else the
// environment, or else the first of the host's usual ones that is there. It
// returns the name "" when there is none.
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

// unreadable says why a configuration file cannot be read and what to do.
func unreadable(path string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err // the path is in the sentence already
	}
	return fmt.Errorf("cannot read the configuration file %q: %w; name a YAML file that this user may read", path, err)
}
