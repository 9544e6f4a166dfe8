package shell

import (
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/ctl/completion"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// completer completes the word before the cursor when Tab is typed.
type completer struct {
	env func(string) (string, bool)
	// keys returns some keys of the database that begin with a prefix.
	keys func(prefix string) []string
	// show shows the candidates when there are several.
	show func(words []string)
}

// shown is how many candidates are listed at most.
const shown = 60

// key implements term.Terminal's AutoCompleteCallback.
func (c *completer) key(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	before, after := line[:pos], line[pos:]
	words, begin, _ := split(before)
	if next, _, _ := split(before + "x"); len(next) > len(words) {
		words, begin = append(words, ""), len(before)
	}
	word := words[len(words)-1]
	candidates := c.candidates(words, word)
	if len(candidates) == 0 {
		return line, pos, true
	}
	grown := commonPrefix(candidates)
	switch {
	case len(candidates) == 1:
		before = before[:begin] + quoted(grown) + " "
	case len(grown) > len(word):
		before = before[:begin] + strings.TrimSuffix(quoted(grown), "'")
	default:
		c.show(candidates[:min(len(candidates), shown)])
	}
	return before + after, len(before), true
}

func (c *completer) candidates(words []string, word string) []string {
	found := completion.Find(words, c.env)
	if found.Kind == completion.Keys {
		// What cannot be shown cannot be typed either, and might act on the terminal.
		return slices.DeleteFunc(c.keys(word), func(key string) bool { return output.Printable(key) != key })
	}
	out := make([]string, len(found.Candidates))
	for i, candidate := range found.Candidates {
		out[i] = candidate.Word
	}
	return out
}

func commonPrefix(words []string) string {
	prefix := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return strings.ToValidUTF8(prefix, "")
}
