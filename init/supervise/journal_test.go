package supervise

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testJournal(entries, bytes int) *Journal {
	j := NewJournal(entries, bytes)
	var now time.Duration
	j.clock = func() time.Duration { now += time.Second; return now }
	return j
}

func lines(es []Entry) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.Service+" "+e.Line)
	}
	return out
}

func TestJournalBounds(t *testing.T) {
	for _, tt := range []struct {
		name           string
		entries, bytes int
		add            []string
		want           []string
	}{
		{"by entries", 2, 100, []string{"a", "b", "c"}, []string{"s b", "s c"}},
		{"by bytes", 10, 5, []string{"aaa", "bb", "c"}, []string{"s bb", "s c"}},
		{"one line may be longer than all", 10, 3, []string{"a", "bbbbb"}, []string{"s bbbbb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := testJournal(tt.entries, tt.bytes)
			for _, l := range tt.add {
				j.Append("s", l)
			}
			es, last := j.Since(0, "")
			if diff := cmp.Diff(tt.want, lines(es)); diff != "" {
				t.Error(diff)
			}
			if last != uint64(len(tt.add)) || es[len(es)-1].Seq != last {
				t.Errorf("last Seq %d, newest entry %d, want %d", last, es[len(es)-1].Seq, len(tt.add))
			}
		})
	}
}

func TestJournalSince(t *testing.T) {
	j := testJournal(3, 100)
	for _, l := range []string{"1", "2", "3", "4", "5"} {
		j.Append("odd", l)
		j.Append("even", l)
	}
	for _, tt := range []struct {
		seq     uint64
		service string
		want    []string
	}{
		{0, "", []string{"even 4", "odd 5", "even 5"}},
		{7, "", []string{"even 4", "odd 5", "even 5"}},
		{8, "", []string{"odd 5", "even 5"}},
		{0, "odd", []string{"odd 5"}},
		{10, "", nil},
		{99, "", nil},
	} {
		es, last := j.Since(tt.seq, tt.service)
		if diff := cmp.Diff(tt.want, lines(es)); diff != "" || last != 10 {
			t.Errorf("since %d %q: last %d, %s", tt.seq, tt.service, last, diff)
		}
	}
}

func TestJournalCapture(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLine)
	j := testJournal(100, 1<<20)
	j.capture("s", strings.NewReader("one\r\ntwo\n\n"+long+"\nafter\nno newline at the end"))
	es, _ := j.Since(0, "")
	want := []string{"s one", "s two", "s ", "s " + long[:MaxLine], "s after", "s no newline at the end"}
	if diff := cmp.Diff(want, lines(es)); diff != "" {
		t.Error(diff)
	}
	for i, e := range es {
		if e.Cut != (i == 3) {
			t.Errorf("entry %d: Cut is %v", i, e.Cut)
		}
	}
}

func TestJournalFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := testJournal(100, 1000)
		j.Append("a", "before")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		var err error
		go func() {
			err = j.Follow(ctx, 0, "a", func(e Entry) error {
				got = append(got, e.String())
				return nil
			})
		}()
		synctest.Wait()
		j.Append("b", "not followed")
		synctest.Wait()
		j.Append("a", "after")
		synctest.Wait()
		cancel()
		synctest.Wait()
		if diff := cmp.Diff([]string{"[    1.000] a: before", "[    3.000] a: after"}, got); diff != "" {
			t.Error(diff)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		full := errors.New("full")
		if err := j.Follow(t.Context(), 0, "", func(Entry) error { return full }); err != full {
			t.Errorf("error of the reader: %v", err)
		}
	})
}

// A mirror that blocks must not hold up Append.
func TestJournalMirrorBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := testJournal(10, 1000)
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go j.Mirror(ctx, 0, w)
		for range 100 {
			j.Append("s", "line")
		}
		cancel()
		r.Close()
	})
}
