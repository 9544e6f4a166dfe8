package state

import "github.com/dkvdb/dkv/internal/command"

// Sealable reports whether a seal of the log rejects a command. It does not reject another
// Seal here: one of the same promotion has the first one's result.
func Sealable(c *command.Command) bool { return c.Kind.Fenced() && c.Kind != command.Seal }

// Frees reports whether a command only removes keys.
func Frees(c *command.Command) bool {
	for i := range c.Mutations {
		if !c.Mutations[i].Delete {
			return false
		}
	}
	return len(c.Mutations) > 0
}

// ConcernsLog reports whether a command is about the log itself, such as a pause, an epoch
// or a step of a restore. Neither a pause nor a nearly full disk rejects such a command.
func ConcernsLog(c *command.Command) bool { return !c.Kind.ChangesKeys() }
