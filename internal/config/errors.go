package config

import (
	"errors"
	"fmt"
	"strconv"
)

// UsageError is the error of a command line, environment or file with an unknown,
// misplaced or repeated name. Programs exit with 2 on it.
type UsageError struct {
	// Where is the place, such as "dkvsrv.yaml:12"; "" means the command line.
	Where string
	// Text says what is wrong and what to do.
	Text string
}

func (e *UsageError) Error() string {
	if e.Where == "" {
		return e.Text
	}
	return e.Where + ": " + e.Text
}

// ValueError is the error of a known key with an invalid value, or of a configuration
// file that cannot be read. Programs exit with 1 on it.
type ValueError struct {
	// Key is the key, such as "listen-addr"; "" if the error is about none.
	Key string
	// Origin is where the value comes from.
	Origin Origin
	// Err says what is wrong with the value and what to do.
	Err error
}

func (e *ValueError) Error() string {
	where := e.Origin.String()
	switch {
	case e.Key == "":
		return e.Err.Error()
	case e.Origin.Source == FromFlag:
		return fmt.Sprintf("%s: %v", where, e.Err)
	case e.Origin.Source.byUser():
		return fmt.Sprintf("%s: %s: %v", where, e.Key, e.Err)
	default:
		return fmt.Sprintf("%s: %v", e.Key, e.Err)
	}
}

// Unwrap returns what is wrong with the value.
func (e *ValueError) Unwrap() error { return e.Err }

// Source is where a value can come from, weakest first.
type Source uint8

// The sources.
const (
	FromDefault Source = iota // the built-in default
	Derived                   // derived from other keys or the machine
	FromFile                  // the YAML file
	FromEnv                   // an environment variable
	FromFlag                  // a command-line flag
)

// byUser reports whether the user set the value.
func (s Source) byUser() bool { return s >= FromFile }

// Origin is the source of one value.
type Origin struct {
	Source Source
	// Name is the file, the variable or the flag.
	Name string
	// Line is the line in the file, from 1; otherwise 0.
	Line int
}

// String returns a form that a user can search for: "dkvsrv.yaml:12", "DKV_ROLE",
// "--role", "default", "derived".
func (o Origin) String() string {
	switch o.Source {
	case FromFile:
		return place(o.Name, o.Line)
	case FromEnv, FromFlag:
		return o.Name
	case Derived:
		return "derived"
	default:
		return "default"
	}
}

// place names a line of a file; line 0 means the file as a whole.
func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// isOutOfRange reports whether a number was well formed but too large.
func isOutOfRange(err error) bool { return errors.Is(err, strconv.ErrRange) }
