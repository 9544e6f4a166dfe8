package completion

import (
	"embed"

	"github.com/dkvdb/dkv/internal/ctl/options"
)

//go:embed scripts
var scripts embed.FS

// Script returns the text that makes a shell complete the command lines of dkvctl.
func Script(shell string) (string, error) {
	raw, err := scripts.ReadFile("scripts/dkvctl." + shell)
	if err != nil {
		return "", options.Usagef("-completion knows bash, zsh and fish, not %q", shell)
	}
	return string(raw), nil
}
