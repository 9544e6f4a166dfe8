package logfile

import (
	"fmt"
	"unicode/utf8"
)

// Short cuts a text of more than so many bytes, between two characters, and says by how much.
func Short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes left out)", text[:cut], len(text)-cut)
}
