package token

import (
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		text := New()
		if err := Check(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		id, ok := IDOf(text)
		if !ok || seen[id] || !strings.HasPrefix(text, "dkv_"+id+"_") {
			t.Fatalf("%s has the ID %q, %v", text, id, ok)
		}
		seen[id] = true
		hash, err := Hash(text)
		if err != nil || strings.Contains(hash, text[13:20]) {
			t.Fatal(hash, err)
		}
		of, sum, err := ParseHash(hash)
		want := Sum(text)
		if err != nil || of != id || !sum.Equal(&want) {
			t.Fatalf("%s is read as %s %x: %v", hash, of, sum, err)
		}
	}
}

// TestMistypedTokensAreFound changes, drops and doubles each character.
func TestMistypedTokensAreFound(t *testing.T) {
	text := New()
	for i := range text {
		other := byte('x')
		if text[i] == other {
			other = 'y'
		}
		for _, wrong := range []string{text[:i] + string(other) + text[i+1:], text[:i] + text[i+1:], text[:i] + text[i:i+1] + text[i:]} {
			if err := Check(wrong); err == nil {
				t.Errorf("%s passes for %s", wrong, text)
			} else if strings.Contains(err.Error(), text[13:40]) {
				t.Errorf("the error shows the secret: %v", err)
			}
			if _, err := Hash(wrong); err == nil {
				t.Errorf("%s has a hash", wrong)
			}
		}
	}
}

func TestHashesOfOtherFormsAreRejected(t *testing.T) {
	hash, err := Hash(New())
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "sha256:", "sha256::", New(), hash[1:], hash + "0", hash[:len(hash)-1], "md5" + hash[6:],
		hash[:20] + "g" + hash[21:], "sha256:ABCDEFGH:" + hash[16:], "sha256:" + hash[16:]} {
		if _, _, err := ParseHash(wrong); err == nil {
			t.Errorf("%q is read as a hash", wrong)
		}
	}
}

func TestSumDoesNotAllocate(t *testing.T) {
	text := New()
	if n := testing.AllocsPerRun(100, func() { Sum(text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzToken(f *testing.F) {
	text := New()
	hash, _ := Hash(text)
	f.Add(text)
	f.Add(hash)
	f.Add("dkv__")
	f.Fuzz(func(t *testing.T, text string) {
		_, form := IDOf(text)
		if err := Check(text); err == nil && !form {
			t.Errorf("%q passes the check without the form of a token", text)
		}
		if id, sum, err := ParseHash(text); err == nil {
			if again, sum2, err := ParseHash(strings.ToLower(text)); err != nil || again != id || sum2 != sum {
				t.Errorf("%q: %v", text, err)
			}
		}
		Sum(text)
	})
}
