package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

// Binary units.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// sizeUnits in the order in which they are tried as suffixes: "b" ends all of
// them, so it comes last.
var sizeUnits = [...]struct {
	suffix string
	bytes  Size
}{
	{"kib", KiB}, {"mib", MiB}, {"gib", GiB}, {"tib", TiB},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"b", 1},
}

// ParseSize reads a whole number of bytes: "1048576", "512MiB" (1024s), "1GB"
// (1000s). Letter case does not count; a space may stand before the unit.
func ParseSize(text string) (Size, error) {
	number, unit := strings.ToLower(strings.TrimSpace(text)), Size(1)
	for _, u := range sizeUnits {
		if n, found := strings.CutSuffix(number, u.suffix); found {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil && !isOutOfRange(err):
		return 0, fmt.Errorf("%q is not a size: write whole bytes such as 1048576, or 512MiB, or 1GB", text)
	case n < 0:
		return 0, fmt.Errorf("%q is negative: write a size of zero or more", text)
	case err != nil || n > math.MaxInt64/int64(unit):
		return 0, fmt.Errorf("%q is too large: write a smaller size", text)
	}
	return Size(n) * unit, nil
}

// String writes the size in the largest binary unit that divides it, in a form
// that ParseSize reads back.
func (s Size) String() string {
	for _, u := range [...]struct {
		suffix string
		bytes  Size
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
