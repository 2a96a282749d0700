package journal

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

func TestQueueKeepsOrder(t *testing.T) {
	var out strings.Builder
	q := NewQueue(&out)
	var want strings.Builder
	for i := range 500 {
		fmt.Fprintf(q, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	q.Close()
	q.Write([]byte("after the end\n"))
	if out.String() != want.String() {
		t.Errorf("got %q", out.String())
	}
}

// TestQueueNeverWaits: a reader that stands still costs lines, not time; how many is said when it goes on.
func TestQueueNeverWaits(t *testing.T) {
	r, w := io.Pipe()
	q := NewQueue(w)
	done := make(chan struct{})
	const more = 100
	go func() {
		defer close(done)
		for i := range lines + more {
			fmt.Fprintf(q, "line %d\n", i)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a write waits for the reader")
	}
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		got <- string(b)
	}()
	for { // until there is room again
		q.Write([]byte("the last\n"))
		q.mu.Lock()
		taken := q.dropped == 0
		q.mu.Unlock()
		if taken {
			break
		}
		time.Sleep(time.Millisecond)
	}
	q.Close()
	w.Close()
	all := <-got
	if !strings.Contains(all, "lines before this one were lost") || !strings.HasSuffix(all, "the last\n") || !strings.HasPrefix(all, "line 0\n") {
		t.Errorf("the log ends with %q", all[max(0, len(all)-300):])
	}
}

func TestNew(t *testing.T) {
	var out strings.Builder
	New(&out).Log(t.Context(), member.LevelNotice, "state_change", "text", "a b")
	if out.String() != "level=NOTICE msg=state_change text=\"a b\"\n" {
		t.Errorf("got %q", out.String())
	}
}
