package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// value reads and writes one field of a Config as text.
type value interface {
	// set parses text and stores it, or returns what is wrong and leaves the field
	// unchanged.
	set(text string) error
	// text writes the field in a form that set reads back.
	text() string
	// kind names the form of the value for --help: "SIZE", "a|b"; "" is a boolean.
	kind() string
}

type boolValue struct{ p *bool }

func (v boolValue) set(text string) error {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q is not a boolean: write true or false", text)
	}
	*v.p = b
	return nil
}

func (v boolValue) text() string { return strconv.FormatBool(*v.p) }
func (v boolValue) kind() string { return "" }

// exposureValue is false, data or true; as a flag without a value it is true.
type exposureValue struct{ choiceValue[Exposure] }

func exposure(p *Exposure) value {
	return exposureValue{enum(p, ExposeNothing, ExposeData, ExposeAll)}
}

func (v exposureValue) set(text string) error {
	if b, err := strconv.ParseBool(text); err == nil {
		text = strconv.FormatBool(b)
	}
	return v.choiceValue.set(text)
}

func (v exposureValue) bare() bool { return true }

type intValue struct {
	p        *int
	min, max int
}

func (v intValue) set(text string) error {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil && !isOutOfRange(err) {
		return fmt.Errorf("%q is not a whole number: write one from %d to %d", text, v.min, v.max)
	}
	if err != nil || n < v.min || n > v.max {
		return fmt.Errorf("%q is out of range: write a number from %d to %d", text, v.min, v.max)
	}
	*v.p = n
	return nil
}

func (v intValue) text() string { return strconv.Itoa(*v.p) }
func (v intValue) kind() string { return "NUMBER" }

// shareValue is a number from 0 to 1.
type shareValue struct{ p *float64 }

func (v shareValue) set(text string) error {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(n >= 0 && n <= 1) { // nor NaN
		return fmt.Errorf("%q is not a share: write a number from 0 to 1, such as 0.01", text)
	}
	*v.p = n
	return nil
}

func (v shareValue) text() string { return strconv.FormatFloat(*v.p, 'g', -1, 64) }
func (v shareValue) kind() string { return "SHARE" }

type sizeValue struct {
	p        *Size
	min, max Size
}

func (v sizeValue) set(text string) error {
	n, err := ParseSize(text)
	if err != nil {
		return err
	}
	if n < v.min || n > v.max {
		return fmt.Errorf("%q is out of range: write a size from %v to %v", text, v.min, v.max)
	}
	*v.p = n
	return nil
}

func (v sizeValue) text() string { return v.p.String() }
func (v sizeValue) kind() string { return "SIZE" }

type durationValue struct {
	p   *time.Duration
	min time.Duration
}

func (v durationValue) set(text string) error {
	d, err := parseDuration(text)
	if err != nil {
		return err
	}
	if d < 0 {
		return fmt.Errorf("%q is negative: write a duration of %s or more", text, formatDuration(v.min))
	}
	if d < v.min {
		return fmt.Errorf("%q is too short: write a duration of %s or more", text, formatDuration(v.min))
	}
	*v.p = d
	return nil
}

func (v durationValue) text() string { return formatDuration(*v.p) }
func (v durationValue) kind() string { return "DURATION" }

// parseDuration reads a Go duration ("100ms", "1h30m") or a bare number of
// seconds ("5", "0.5").
func parseDuration(text string) (time.Duration, error) {
	spelled := strings.TrimSpace(text)
	if spelled != "" && strings.Trim(spelled, "+-.0123456789") == "" {
		spelled += "s"
	}
	d, err := time.ParseDuration(spelled)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write seconds such as 5, or a duration such as 100ms, 5s or 24h", text)
	}
	return d, nil
}

// formatDuration writes d as time.Duration does, without zero parts at the
// end: "5m", not "5m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// choiceValue is one of a few named values.
type choiceValue[T comparable] struct {
	p       *T
	options []option[T]
}

type option[T comparable] struct {
	name  string
	value T
	alias bool // understood, but never written or offered
}

func (v choiceValue[T]) set(text string) error {
	for _, o := range v.options {
		if o.name == text {
			*v.p = o.value
			return nil
		}
	}
	return fmt.Errorf("%q is not known: write one of %s", text, strings.Join(v.names(), ", "))
}

func (v choiceValue[T]) text() string {
	for _, o := range v.options {
		if o.value == *v.p {
			return o.name
		}
	}
	return fmt.Sprint(*v.p) // set by code; set refuses it
}

func (v choiceValue[T]) kind() string { return strings.Join(v.names(), "|") }

func (v choiceValue[T]) names() []string {
	var names []string
	for _, o := range v.options {
		if !o.alias {
			names = append(names, o.name)
		}
	}
	return names
}

// enum returns the value of a field whose type is a string of the same spelling.
func enum[T ~string](p *T, allowed ...T) choiceValue[T] {
	v := choiceValue[T]{p: p}
	for _, a := range allowed {
		v.options = append(v.options, option[T]{name: string(a), value: a})
	}
	return v
}

func roleValue(p *Role) value {
	v := enum(p, RoleNone, RoleMaster, RoleSlave, RoleDiscovery)
	v.options = append(v.options, option[Role]{name: "standalone", value: RoleNone, alias: true})
	return v
}

func levelValue(p *slog.Level) value {
	return choiceValue[slog.Level]{p: p, options: []option[slog.Level]{
		{name: "debug", value: slog.LevelDebug},
		{name: "info", value: slog.LevelInfo},
		{name: "warn", value: slog.LevelWarn},
		{name: "error", value: slog.LevelError},
	}}
}

func tlsVersionValue(p *TLSVersion) value {
	return choiceValue[TLSVersion]{p: p, options: []option[TLSVersion]{
		{name: "1.2", value: TLS12},
		{name: "1.3", value: TLS13},
	}}
}

// pathValue is the name of a file or folder, or "" unless required.
type pathValue struct {
	p        *string
	required bool
}

func (v pathValue) set(text string) error {
	if text == "" && v.required {
		return errors.New("the path is empty: write one")
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%q contains control characters: write a path without", text)
	}
	if text == "~" || strings.HasPrefix(text, "~/") {
		return fmt.Errorf("%q begins with ~, which a shell replaces, and not behind a = or in a file: write the path in full", text)
	}
	*v.p = text
	return nil
}

func (v pathValue) text() string { return *v.p }
func (v pathValue) kind() string { return "PATH" }

// maxName is the longest name, in bytes: file systems accept no more.
const maxName = 255

// nameValue is a name that is valid in a path, a metric label and a log line.
type nameValue struct {
	p        *string
	optional bool
}

func (v nameValue) set(text string) error {
	switch {
	case text == "" && !v.optional:
		return errors.New("the name is empty: write one")
	case len(text) > maxName:
		return fmt.Errorf("the name is %d bytes long: write one of at most %d", len(text), maxName)
	case text == "." || text == ".." || strings.ContainsFunc(text, unfitForName):
		return fmt.Errorf("%q is not a name: use printable characters other than / and \\", text)
	}
	*v.p = text
	return nil
}

func (v nameValue) text() string { return *v.p }
func (v nameValue) kind() string { return "NAME" }

// dnsNameValue is a DNS name as certificates carry it.
type dnsNameValue struct{ p *string }

func (v dnsNameValue) set(text string) error {
	unfit := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	if text == "" || len(text) > maxName-2 || strings.ContainsFunc(text, unfit) || strings.HasPrefix(text, ".") || strings.HasSuffix(text, ".") {
		return fmt.Errorf("%q is not a DNS name: use lower-case letters, digits, hyphens, and dots between them", text)
	}
	*v.p = text
	return nil
}

func (v dnsNameValue) text() string { return *v.p }
func (v dnsNameValue) kind() string { return "NAME" }

func unfitForName(r rune) bool {
	return r == '/' || r == '\\' || !strconv.IsPrint(r) || r == utf8.RuneError
}
