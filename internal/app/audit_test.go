package app

import (
	"testing"

	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/auth"
)

// TestAdministrativeCallsAreAudited walks the table of all gRPC methods: a new one for
// administrators cannot be left out of the audit log.
func TestAdministrativeCallsAreAudited(t *testing.T) {
	administrative := 0
	for _, row := range access.Methods() {
		if row.Role != auth.Admin {
			continue
		}
		if administrative++; !access.Audited(row.Call) {
			t.Errorf("%s needs the role admin and is not audited", row.Call)
		}
	}
	if administrative == 0 {
		t.Error("the table has no administrative calls")
	}
}
