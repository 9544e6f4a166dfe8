// Package seed has property tests draw the same values in every run: a test that passes here
// passes elsewhere. Import it for that alone. -rapid.seed=0 draws new values.
package seed

import (
	"flag"

	_ "pgregory.net/rapid" // has the flag
)

func init() {
	if err := flag.Set("rapid.seed", "1"); err != nil {
		panic(err)
	}
}
