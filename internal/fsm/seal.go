package fsm

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
)

// Sealed returns the promotion that the log is sealed for; "" if it is not. It costs one
// atomic load.
func (m *Machine) Sealed() string {
	promotion, _ := m.SealedAt()
	return promotion
}

// SealedAt is Sealed with the index of the Seal.
func (m *Machine) SealedAt() (promotion string, at kv.Index) {
	if s := m.sealed.Load(); s != nil {
		return s.Promotion, s.At
	}
	return "", 0
}

// seals reports whether the seal rejects c. What needs no epoch is admitted: the end of the
// seal, and how members are reached.
func (m *Machine) seals(c *command.Command) bool {
	sealed := m.state.Sealed.Promotion
	if sealed == "" || c.Kind == command.SetMember || c.Kind == command.Unseal {
		return false
	}
	return c.Kind != command.Seal || string(c.Expect) != sealed
}

// seal seals the log for a promotion. A repeated Seal has the result of the first, since its
// index is what the promotion has to reach.
func (tx *tx) seal(c *command.Command, res *command.Result) {
	s := &tx.m.state
	switch {
	case s.Sealed.Promotion != "":
		res.Index = s.Sealed.At
	case tx.m.staged.active:
		res.Code = command.Restoring
	default:
		s.Sealed = layout.Seal{Promotion: string(c.Expect), At: res.Index}
	}
}

func (m *Machine) unseal(promotion []byte) {
	if string(promotion) == m.state.Sealed.Promotion {
		m.state.Sealed = layout.Seal{}
	}
}

// publishSeal updates the copy of the seal that readers load.
func (m *Machine) publishSeal() {
	promotion, at := m.SealedAt()
	switch now := m.state.Sealed; {
	case now.Promotion == "" && promotion != "":
		m.sealed.Store(nil)
	case now.Promotion != "" && now != (layout.Seal{Promotion: promotion, At: at}):
		published := now // allocated here only, and not for every batch
		m.sealed.Store(&published)
	}
}
