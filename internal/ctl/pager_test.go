package ctl

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// pager takes the first output only when its user has read a page.
type pager struct {
	bytes.Buffer
	page sync.Once
}

func (p *pager) Write(b []byte) (int, error) {
	p.page.Do(func() { time.Sleep(2 * time.Second) })
	return p.Buffer.Write(b)
}

// TestIterationWaitsForItsReader: -timeout is for the node, and not for the program behind a pipe.
func TestIterationWaitsForItsReader(t *testing.T) {
	f := startFake(t)
	const pairs = 400
	for i := 0; i < pairs; i += 50 {
		args := []string{"-mset"}
		for n := i; n < i+50; n++ {
			args = append(args, fmt.Sprintf("k%03d", n), strings.Repeat("v", 4<<10))
		}
		expect(t, dkvctl(t, f.addr, args...), outcome{stdout: "OK\n"})
	}
	var out pager
	var stderr bytes.Buffer
	code := Main(t.Context(), []string{"-a", f.addr, "-timeout", "1s", "-iter", "*"}, func(string) (string, bool) { return "", false }, strings.NewReader(""), &out, &stderr)
	if n := bytes.Count(out.Bytes(), []byte("\n")); code != exitOK || stderr.Len() > 0 || n != pairs {
		t.Errorf("code %d, %d of %d pairs, stderr %q", code, n, pairs, stderr.String())
	}
}
