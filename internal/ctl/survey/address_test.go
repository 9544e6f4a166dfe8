package survey

import "testing"

func TestSameAddress(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"[::1]:1", "[0:0:0:0:0:0:0:1]:1", true},
		{"127.0.0.1:1", "127.0.0.1", false},
		{"", "", true},
		{"", "127.0.0.1:1", false},
		{"127.0.0.1:1", "not a host:1", false},
	}
	for _, tt := range tests {
		if got := sameAddress(t.Context(), tt.a, tt.b); got != tt.want {
			t.Errorf("%q and %q lead to one place: %v", tt.a, tt.b, got)
		}
	}
}
