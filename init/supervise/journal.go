package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine is where a line in the journal is cut, in bytes. The rest of the
// line is dropped and the entry is marked.
const MaxLine = 4096

// Entry is one line in the journal.
type Entry struct {
	// Seq grows by one with every entry, from 1. A gap means that entries
	// were overwritten before they were read.
	Seq uint64 `json:"seq"`
	// Uptime is the time since the machine booted, suspend included
	// (CLOCK_BOOTTIME): it never jumps, unlike wall time.
	Uptime time.Duration `json:"uptime_ns"`
	// Service printed the line; the supervisor's own lines carry its name.
	Service string `json:"service"`
	Line    string `json:"line"`
	// Cut is true when the line was longer than MaxLine.
	Cut bool `json:"cut,omitempty"`
}

// String is how an entry looks on a console.
func (e Entry) String() string {
	return fmt.Sprintf("[%9.3f] %s: %s", e.Uptime.Seconds(), e.Service, e.Line)
}

// Journal keeps the newest lines of all services in memory, bounded in entries
// and in bytes. Its methods may be called from any goroutine.
type Journal struct {
	clock      func() time.Duration
	maxEntries int
	maxBytes   int

	mu      sync.Mutex
	entries []Entry
	bytes   int
	last    uint64
	more    chan struct{} // closed and replaced at every append
}

// NewJournal makes a journal of at most maxEntries lines and maxBytes bytes of
// text. Zero means 8192 lines, 1 MiB.
func NewJournal(maxEntries, maxBytes int) *Journal {
	if maxEntries <= 0 {
		maxEntries = 8192
	}
	if maxBytes <= 0 {
		maxBytes = 1 << 20
	}
	return &Journal{clock: Uptime, maxEntries: maxEntries, maxBytes: maxBytes, more: make(chan struct{})}
}

// Uptime is the time since the machine booted (CLOCK_BOOTTIME).
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Append adds one line.
func (j *Journal) Append(service, line string) { j.add(service, line, false) }

// Appendf adds one formatted line.
func (j *Journal) Appendf(service, format string, args ...any) {
	j.add(service, fmt.Sprintf(format, args...), false)
}

func (j *Journal) add(service, line string, cut bool) {
	if len(line) > MaxLine {
		line, cut = line[:MaxLine], true
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	j.entries = append(j.entries, Entry{Seq: j.last, Uptime: j.clock(), Service: service, Line: line, Cut: cut})
	j.bytes += len(line)
	drop := 0
	for len(j.entries)-drop > j.maxEntries || j.bytes > j.maxBytes && len(j.entries)-drop > 1 {
		j.bytes -= len(j.entries[drop].Line)
		j.entries[drop] = Entry{}
		drop++
	}
	j.entries = j.entries[drop:]
	close(j.more)
	j.more = make(chan struct{})
}

// Since returns the entries after seq, oldest first, of one service or, with
// an empty name, of all. The second value is the Seq to ask with next.
func (j *Journal) Since(seq uint64, service string) ([]Entry, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	es, _ := j.since(seq, service)
	return es, j.last
}

func (j *Journal) since(seq uint64, service string) ([]Entry, <-chan struct{}) {
	var out []Entry
	// Seqs are consecutive, so the first wanted entry is found by counting.
	skip := 0
	if len(j.entries) > 0 && seq >= j.entries[0].Seq {
		skip = int(min(seq-j.entries[0].Seq+1, uint64(len(j.entries))))
	}
	for _, e := range j.entries[skip:] {
		if service == "" || e.Service == service {
			out = append(out, e)
		}
	}
	return out, j.more
}

// Follow calls fn with every entry after seq, and goes on with new ones as they
// come, until the context ends or fn returns an error, which it returns.
func (j *Journal) Follow(ctx context.Context, seq uint64, service string, fn func(Entry) error) error {
	for {
		j.mu.Lock()
		es, more := j.since(seq, service)
		seq = j.last
		j.mu.Unlock()
		for _, e := range es {
			if err := fn(e); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// Mirror writes every entry after seq to w, one line each, until the context
// ends. A writer that fails loses that line only; one that is slow loses what
// the journal has dropped meanwhile, and never holds up a service.
func (j *Journal) Mirror(ctx context.Context, seq uint64, w io.Writer) {
	j.Follow(ctx, seq, "", func(e Entry) error {
		fmt.Fprintln(w, e)
		return nil
	})
}

// capture reads lines from r into the journal until r ends.
func (j *Journal) capture(service string, r io.Reader) {
	br := bufio.NewReaderSize(r, MaxLine)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			// The buffer is reused by the next read.
			text, cut := string(line), errors.Is(err, bufio.ErrBufferFull)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			j.add(service, trimEOL(text), cut)
		}
		if err != nil {
			return
		}
	}
}

// trimEOL removes the line end, also the \r of programs that think they write
// to a terminal.
func trimEOL(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}
