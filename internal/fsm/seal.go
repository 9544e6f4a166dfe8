package fsm

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// seal is what a promotion of the database to other nodes leaves in the log of its masters.
// It is zero if there is none.
type seal struct {
	promotion string
	// at is the index of the Seal.
	at kv.Index
}

// Sealed returns the promotion that the log is sealed for; "" if it is not. It costs one
// atomic load.
func (m *Machine) Sealed() string {
	promotion, _ := m.SealedAt()
	return promotion
}

// SealedAt is Sealed with the index of the Seal.
func (m *Machine) SealedAt() (promotion string, at kv.Index) {
	if s := m.sealed.Load(); s != nil {
		return s.promotion, s.at
	}
	return "", 0
}

// seals reports whether the seal rejects c. What needs no epoch is admitted: the end of the
// seal, and how members are reached.
func (s *state) seals(c *command.Command) bool {
	if s.sealed.promotion == "" || c.Kind == command.SetMember || c.Kind == command.Unseal {
		return false
	}
	return c.Kind != command.Seal || string(c.Expect) != s.sealed.promotion
}

// seal seals the log for a promotion. A repeated Seal has the result of the first, since its
// index is what the promotion has to reach.
func (tx *tx) seal(c *command.Command, res *command.Result) {
	s := &tx.m.state
	switch {
	case s.sealed.promotion != "":
		res.Index = s.sealed.at
	case tx.m.staged.active:
		res.Code = command.Restoring
	default:
		s.sealed = seal{promotion: string(c.Expect), at: res.Index}
	}
}

func (s *state) unseal(promotion []byte) {
	if string(promotion) == s.sealed.promotion {
		s.sealed = seal{}
	}
}

// publishSeal updates the copy of the seal that readers load.
func (m *Machine) publishSeal() {
	promotion, at := m.SealedAt()
	switch now := m.state.sealed; {
	case now.promotion == "" && promotion != "":
		m.sealed.Store(nil)
	case now.promotion != "" && now != (seal{promotion, at}):
		published := now // allocated here only, and not for every batch
		m.sealed.Store(&published)
	}
}
