package config

import "testing"

// TestAckFrom: standbys come from anywhere, or from one data centre.
func TestAckFrom(t *testing.T) {
	for text, dc := range map[string]string{"any": "", "dc=west": "west", " dc=any ": "any"} {
		c := Default()
		if err := (ackFromValue{&c.Replication.AckFrom}).set(text); err != nil || c.Replication.AckDC() != dc {
			t.Errorf("%q: %q, %v", text, c.Replication.AckDC(), err)
		}
	}
	if c := Default(); c.Replication.AckFrom != "any" || c.Replication.AckDC() != "" {
		t.Errorf("the default is %q", c.Replication.AckFrom)
	}
}
