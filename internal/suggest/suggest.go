// Package suggest finds the known name that is nearest to a mistyped one, for error
// messages such as "unknown flag --rol; did you mean --role?".
package suggest

import "strings"

// maxWord bounds the words that are compared, in bytes: no known name is nearly as
// long, and the comparison takes quadratic time.
const maxWord = 128

// minPart is the shortest word, in bytes, that is looked for inside the known
// names.
const minPart = 3

// Nearest returns the element of known that word probably means, or "" if none is
// near. Case does not matter. A name is near if at most a third of the longer one has
// to change (at least one letter). If there is none, Nearest returns the shortest
// name that has word as its last dotted part, or else one that contains word. Among
// equals the first in known wins.
func Nearest(word string, known []string) string {
	if word == "" || len(word) > maxWord {
		return ""
	}
	word = strings.ToLower(word)
	best, bestDistance := "", maxWord
	for _, name := range known {
		if len(name) > maxWord {
			continue
		}
		d := distance(word, strings.ToLower(name))
		if d < bestDistance && d <= max(1, max(len(word), len(name))/3) {
			best, bestDistance = name, d
		}
	}
	if best != "" {
		return best
	}
	if tail := shortest(known, func(name string) bool { return strings.HasSuffix(name, "."+word) }); tail != "" {
		return tail
	}
	if len(word) < minPart {
		return ""
	}
	return shortest(known, func(name string) bool { return strings.Contains(name, word) })
}

// shortest returns the shortest of the names whose lower-case form fits.
func shortest(names []string, fits func(string) bool) string {
	best := ""
	for _, name := range names {
		if fits(strings.ToLower(name)) && (best == "" || len(name) < len(best)) {
			best = name
		}
	}
	return best
}

// distance is the optimal string alignment distance of a and b in bytes: the
// number of insertions, deletions, substitutions and swaps of neighbours that
// turn a into b, no part being edited twice. (Damerau 1964; the restricted
// form of Boytsov, "Indexing methods for approximate dictionary searching",
// 2011.)
func distance(a, b string) int {
	before := make([]int, len(b)+1) // row i-2
	above := make([]int, len(b)+1)  // row i-1
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitution := above[j-1]
			if a[i-1] != b[j-1] {
				substitution++
			}
			row[j] = min(above[j]+1, row[j-1]+1, substitution)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
