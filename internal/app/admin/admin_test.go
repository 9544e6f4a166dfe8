package admin

import (
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
)

func TestHTTPStatus(t *testing.T) {
	for kind, want := range map[kv.Kind]int{
		kv.Invalid: 400, kv.NotFound: 404, kv.Precondition: 409, kv.Exhausted: 507,
		kv.Unimplemented: 501, kv.Unavailable: 503, kv.Internal: 500, kv.Corrupt: 500, kv.OutOfRange: 500,
	} {
		if got := httpStatus(kv.Errorf(kind, "x")); got != want {
			t.Errorf("kind %d is %d, not %d", kind, got, want)
		}
	}
	if got := httpStatus(errors.New("x")); got != 500 {
		t.Errorf("any error is %d", got)
	}
}
