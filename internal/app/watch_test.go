package app

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAWatchOutlivesAPromotion: each change comes once and in order, also where a planned promotion
// comes between two of them.
func TestAWatchOutlivesAPromotion(t *testing.T) {
	nodes := mastersWith(t, 3, "--disable-discovery-client", "--auto-rejoin")
	slave := slaveOf(t, nodes)
	addresses := []string{slave.listen}
	for _, p := range nodes {
		addresses = append(addresses, p.listen)
	}
	ctx := testkit.Within(t, 2*testkit.Patience)
	c, err := dkv.Open(ctx, strings.Join(addresses, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cursor, err := c.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const before, all = 20, 40
	put := func(i int) {
		if _, err := c.Put(ctx, fmt.Append(nil, "key-", i), nil); err != nil {
			t.Error(err)
		}
	}
	for i := range before {
		put(i)
	}
	next := 0
	for ch, err := range c.Watch(ctx, []byte("key-"), cursor) {
		if err != nil {
			t.Fatal(err)
		}
		if key := string(ch.Mutations[0].Key); key != fmt.Sprint("key-", next) || (era.Of(ch.History) > 0) != (next >= before) {
			t.Fatalf("%s in history %s comes where key-%d is next", key, ch.History, next)
		}
		if next++; next == all {
			break
		}
		if next != before {
			continue
		}
		testkit.Eventually(t, "the slave is promoted", func() bool { // once it has caught up
			said, err := promoteNode(t, slave, &serverpb.PromoteRequest{Planned: true})
			if err != nil {
				t.Log(err, said)
			}
			return err == nil
		})
		for i := range all - before {
			put(before + i)
		}
	}
}
