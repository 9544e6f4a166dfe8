package ctl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// How often -verify asks again where nodes hashed different indexes, and how
// long it waits before.
const (
	verifyTries = 10
	verifyPause = 200 * time.Millisecond
)

// content is what a node says of its keyspace.
type content struct {
	VBucket string `json:"vBucket"`
	Address string `json:"address"`
	Index   uint64 `json:"index"`
	Keys    uint64 `json:"keys"`
	Hash    string `json:"hash"`
	History string `json:"historyId"`
}

// verdict is the result of -verify for one vBucket.
type verdict struct {
	VBucket string    `json:"vBucket"`
	Verdict string    `json:"verdict"` // equal, different or not comparable
	Differs []string  `json:"differs,omitempty"`
	Nodes   []content `json:"nodes"`
}

const (
	equalContent     = "equal"
	differentContent = "different"
	notComparable    = "not comparable"
)

func runVerify(ctx context.Context, s *session, _ []string) error {
	names, err := s.vBucketNames(ctx)
	if err != nil {
		return err
	}
	var bad []string
	for _, name := range names {
		v, err := s.verify(ctx, name)
		if err != nil {
			return err
		}
		if err := s.printVerdict(v); err != nil {
			return err
		}
		if v.Verdict != equalContent {
			bad = append(bad, fmt.Sprintf("vBucket %s: %s", name, v.sentence()))
		}
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

// vBucketNames are the vBuckets to compare: the one that was named, or all.
func (s *session) vBucketNames(ctx context.Context) ([]string, error) {
	if s.vBucket != "" {
		return []string{s.vBucket}, nil
	}
	node, err := s.getNodeStatus(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range node.GetVBuckets() {
		names = append(names, v.GetVBucket())
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("node %s holds no vBucket", node.GetNodeName())
	}
	return names, nil
}

// verify asks all nodes until they all have told the hash of one same index.
// While writes go on, each hashes another index; what one told in an earlier
// try may match what another tells later, so every answer is kept.
func (s *session) verify(ctx context.Context, vBucket string) (*verdict, error) {
	seen := make([]map[uint64]content, len(s.addrs))
	for i := range seen {
		seen[i] = make(map[uint64]content)
	}
	var last []content
	for try := range verifyTries {
		if try > 0 {
			if err := pause(ctx, verifyPause); err != nil {
				return nil, err
			}
		}
		var err error
		if last, err = s.contents(ctx, vBucket); err != nil {
			return nil, err
		}
		for i, c := range last {
			seen[i][c.Index] = c
		}
		if same := sameIndex(seen); same != nil {
			return judge(vBucket, same), nil
		}
	}
	return &verdict{VBucket: vBucket, Verdict: notComparable, Nodes: last}, nil
}

// contents asks every node once.
func (s *session) contents(ctx context.Context, vBucket string) ([]content, error) {
	type answer struct {
		content content
		err     error
	}
	answers := eachAddress(s, func(one *session, addr string) answer {
		var res *serverpb.ContentHashResponse
		err := one.call(ctx, reads, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			res, err = serverpb.NewDKVNodeClient(conn).GetContentHash(ctx, &serverpb.ContentHashRequest{VBucket: vBucket})
			return err
		})
		return answer{content{VBucket: vBucket, Address: addr, Index: res.GetIndex(), Keys: res.GetKeys(),
			Hash: hex.EncodeToString(res.GetHash()), History: res.GetHistoryId()}, err}
	})
	contents := make([]content, len(answers))
	for i, a := range answers {
		if a.err != nil {
			return nil, a.err
		}
		contents[i] = a.content
	}
	return contents, nil
}

// sameIndex returns what every node told of the greatest index that all told
// of, or nil.
func sameIndex(seen []map[uint64]content) []content {
	var best []content
	for index := range seen[0] {
		if best != nil && best[0].Index > index {
			continue
		}
		var row []content
		for _, node := range seen {
			if c, ok := node[index]; ok {
				row = append(row, c)
			}
		}
		if len(row) == len(seen) {
			best = row
		}
	}
	return best
}

// judge compares contents of one index. The content that most nodes have, or
// the first of equals, is taken for the right one.
func judge(vBucket string, contents []content) *verdict {
	v := &verdict{VBucket: vBucket, Verdict: equalContent, Nodes: contents}
	votes := make(map[string]int)
	for _, c := range contents {
		votes[c.History+c.Hash]++
	}
	right := contents[0]
	for _, c := range contents {
		if votes[c.History+c.Hash] > votes[right.History+right.Hash] {
			right = c
		}
	}
	for _, c := range contents {
		if c.Hash != right.Hash || c.History != right.History {
			v.Differs = append(v.Differs, c.Address)
		}
	}
	if len(v.Differs) > 0 {
		v.Verdict = differentContent
	}
	return v
}

func (v *verdict) sentence() string {
	switch v.Verdict {
	case equalContent:
		if len(v.Nodes) == 1 {
			return "equal: one node, nothing to compare it with"
		}
		return fmt.Sprintf("equal: %d nodes at index %d", len(v.Nodes), v.Nodes[0].Index)
	case differentContent:
		return "different at the same index: " + strings.Join(v.Differs, ", ")
	}
	var indexes []string
	for _, c := range v.Nodes {
		indexes = append(indexes, fmt.Sprint(c.Index))
	}
	return fmt.Sprintf("not comparable: the nodes never stood at one index (last %s); -pauseWrites lets them",
		strings.Join(slices.Compact(indexes), ", "))
}

func (s *session) printVerdict(v *verdict) error {
	if s.out.json {
		return s.out.value(v)
	}
	rows := make([][]string, len(v.Nodes))
	for i, c := range v.Nodes {
		rows[i] = []string{c.VBucket, c.Address, fmt.Sprintf("index=%d", c.Index), fmt.Sprintf("keys=%d", c.Keys), "hash=" + c.Hash}
	}
	if err := writeColumns(s.out.w, rows); err != nil {
		return err
	}
	return s.out.line(v.sentence())
}

// pause waits, or returns early with the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
