package command

import (
	"slices"
	"testing"
)

// The groups of kinds, spelled out: each follows from a kind's number or from another group,
// and a new kind must not slip into one.
func TestGroupsOfKinds(t *testing.T) {
	keys := []Kind{Write, CompareAndSet, Increment, Expire}
	for name, group := range map[string]struct {
		has  func(Kind) bool
		want []Kind
	}{
		"ChangesKeys":    {Kind.ChangesKeys, keys},
		"TakesMutations": {Kind.TakesMutations, append(slices.Clone(keys), StageRestore)},
		"TakesRequest":   {Kind.TakesRequest, append(slices.Clone(keys), SetPaused)},
		"MovesClock":     {Kind.MovesClock, append(slices.Clone(keys), Tick)},
		"Fenced": {Kind.Fenced, slices.DeleteFunc(Kinds(), func(k Kind) bool {
			return k == BeginEpoch || k == SetMember || k == Unseal
		})},
	} {
		for _, k := range Kinds() {
			if got := group.has(k); got != slices.Contains(group.want, k) {
				t.Errorf("%v: %s is %v", k, name, got)
			}
		}
		if group.has(0) && name != "Fenced" {
			t.Errorf("%s is true for no kind", name)
		}
	}
}
