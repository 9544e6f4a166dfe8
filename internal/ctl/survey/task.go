package survey

import (
	"cmp"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
)

// TaskText says what a task does now, without how far it is.
func TaskText(t *serverpb.Task) string {
	text := t.GetKind()
	if t.GetSubject() != "" {
		text += " " + t.GetSubject()
	}
	if t.GetParts() > 0 {
		text += fmt.Sprintf(", vBucket %d of %d", t.GetPart(), t.GetParts())
	}
	return text + ": " + cmp.Or(t.GetStep(), "begins")
}

// taskRow is a task in -status.
type taskRow struct {
	Kind    string  `json:"kind"`
	Subject string  `json:"subject,omitempty"`
	Step    string  `json:"step"`
	Part    uint32  `json:"part,omitempty"`
	Parts   uint32  `json:"parts,omitempty"`
	Done    uint64  `json:"done"`
	Total   uint64  `json:"total"`
	Unit    string  `json:"unit,omitempty"`
	Seconds float64 `json:"seconds"`
	words   string
}

func tasksOf(res *serverpb.NodeStatusResponse) (rows []taskRow) {
	for _, t := range res.GetTasks() {
		rows = append(rows, taskRow{Kind: t.GetKind(), Subject: t.GetSubject(), Step: t.GetStep(), Part: t.GetPart(), Parts: t.GetParts(),
			Done: t.GetDone(), Total: t.GetTotal(), Unit: t.GetUnit(), Seconds: float64(t.GetMillis()) / 1000, words: TaskText(t)})
	}
	return rows
}

// text is the cell of a task: what it does, and how much of that is done.
func (t taskRow) text() string {
	if t.Total == 0 {
		return t.words
	}
	return fmt.Sprintf("%s (%.0f%%)", t.words, 100*float64(t.Done)/float64(t.Total))
}
