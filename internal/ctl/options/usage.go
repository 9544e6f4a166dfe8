package options

import "fmt"

// UsageError is a command line that was not understood.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}
