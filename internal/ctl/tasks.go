package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/nodes"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/ctl/survey"
	"github.com/dkvdb/dkv/internal/task"
)

// work is a command that a node is busy with for a while.
type work struct {
	// kind and subject are those of the node's task.
	kind, subject string
	// text says what is done, for a node that does not say how far it is.
	text string
	// after is what becomes of it if the command ends before, and how to look again.
	after string
}

func backupWork(path string) work {
	return work{task.Backup, path, "the backup is being made", "the node gives the backup up and leaves nothing of it, unless it was complete already; " +
		"-status shows what the node still does, and the same -backup says if it exists"}
}

func restoreWork(path string) work {
	return work{task.Restore, path, "the backup is being restored", "the node drops what is not complete, and the data stays as it was, unless a vBucket was replaced already; " +
		"-status shows what the node still does, and the same -restore restores all of it again"}
}

func removeWork(url string) work {
	return work{task.Removal, url, "the node is being removed", "it may be removed from some vBuckets or all by now; -listNodes shows the members, and the same -removeNode continues"}
}

func leadersWork(url string) work {
	return work{task.Leaders, url, "leaders are moving", "those that have moved stay where they are; -status shows which node leads what"}
}

func snapshotWork(vBucket string) work {
	return work{task.Snapshot, vBucket, "the state is being made durable", "what is durable by now stays so; -status shows what the node still does"}
}

// ended explains the error of a command that has ended before the node was done: it was
// interrupted, or took longer than -timeout.
func (w work) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted: " + w.after)
	}
	var re *nodes.RequestError
	if errors.As(err, &re) && re.Code == codes.DeadlineExceeded {
		return fmt.Errorf("%w; %s", err, w.after)
	}
	return err
}

// reportWork shows, until stop is called, how far the node is that does it.
func (s *session) reportWork(ctx context.Context, w work) (stop func()) {
	asked := s.lookers(s.Addrs)
	end := s.report(ctx, func(ctx context.Context) progress.State {
		for _, one := range asked {
			if t := one.taskNow(ctx, w.kind, w.subject); t != nil {
				return stateOf(t)
			}
		}
		return progress.State{Text: w.text, Timed: true}
	})
	return func() { end(); asked.close() }
}

// lookers are sessions of one address each, for looking on while others wait for an answer.
type lookers []*session

func (s *session) lookers(addrs []string) (all lookers) {
	for _, addr := range addrs {
		one := s.to(addr)
		one.Timeout = min(s.Timeout, options.DefaultTimeout)
		all = append(all, one)
	}
	return all
}

func (l lookers) close() {
	for _, one := range l {
		one.Close()
	}
}

// taskNow returns the newest task of a kind about a subject at a node; nil if it does not say
// that it has one.
func (s *session) taskNow(ctx context.Context, kind, subject string) (found *serverpb.Task) {
	res, err := s.NodeStatus(ctx)
	if err != nil {
		return nil // the command itself says what is wrong
	}
	for _, t := range res.GetTasks() {
		if t.GetKind() == kind && bare(t.GetSubject()) == bare(subject) && t.GetStep() != "" {
			found = t
		}
	}
	return found
}

// bare is a subject without what the URL of a node may have or not.
func bare(subject string) string {
	return strings.TrimSuffix(strings.TrimPrefix(subject, "http://"), "/")
}

// stateOf is a task as its progress is shown.
func stateOf(t *serverpb.Task) progress.State {
	s := progress.State{Text: survey.TaskText(t), Step: t.GetStep() + fmt.Sprint(t.GetPart()), Done: t.GetDone(), Total: t.GetTotal(), Unit: t.GetUnit(), Timed: true}
	if s.Unit != task.Bytes && s.Unit != "" {
		s.Unit = " " + s.Unit
	}
	return s
}
