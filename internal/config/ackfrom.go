package config

import (
	"fmt"
	"strings"
)

// How repl-ack-from is written.
const (
	ackFromAny = "any"
	ackFromDC  = "dc="
)

// AckDC is the data centre of the slaves that may stand by; empty for any.
func (r *Replication) AckDC() string {
	dc, _ := strings.CutPrefix(r.AckFrom, ackFromDC)
	if dc == r.AckFrom {
		return ""
	}
	return dc
}

// ackFromValue is any, or a data centre.
type ackFromValue struct{ p *string }

func (v ackFromValue) set(text string) error {
	text = strings.TrimSpace(text)
	if text == ackFromAny {
		*v.p = text
		return nil
	}
	dc, is := strings.CutPrefix(text, ackFromDC)
	if !is {
		return fmt.Errorf("%q is not a choice of slaves: write any, or dc=NAME for a data centre", text)
	}
	if err := (nameValue{&dc, false}).set(dc); err != nil {
		return err
	}
	*v.p = ackFromDC + dc
	return nil
}

func (v ackFromValue) text() string { return *v.p }
func (v ackFromValue) kind() string { return "any|dc=NAME" }
