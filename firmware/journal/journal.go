// Package journal is how a daemon logs: lines on its standard error, which the supervisor takes in and stamps. A daemon
// that must never wait logs through a Queue.
package journal

import (
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/twinkeep/twinkeep/ha/member"
)

// New logs to w, without a time: the supervisor adds it.
func New(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		switch {
		case len(g) > 0:
		case a.Key == slog.TimeKey:
			return slog.Attr{}
		case a.Key == slog.LevelKey && a.Value.Any() == member.LevelNotice:
			a.Value = slog.StringValue("NOTICE")
		}
		return a
	}}))
}

// lines is how many lines a Queue holds: some minutes of the worst storm that the event limits let through.
const lines = 1024

// Queue writes lines without making its caller wait: a supervisor that stands still, or a disk behind it, must not hold
// up a heartbeat. When the queue is full lines are dropped, and a line says how many.
type Queue struct {
	w     io.Writer
	queue chan []byte
	done  chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped int // since the last line that was taken
}

// NewQueue starts to write to w.
func NewQueue(w io.Writer) *Queue {
	q := &Queue{w: w, queue: make(chan []byte, lines), done: make(chan struct{})}
	go func() {
		defer close(q.done)
		for line := range q.queue {
			q.w.Write(line) // nobody could be told of a failure
		}
	}()
	return q
}

// Write takes one line. It never fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return len(line), nil
	}
	b := make([]byte, 0, len(line)+64)
	if q.dropped > 0 {
		b = fmt.Appendf(b, "level=WARN msg=journal text=\"%d lines before this one were lost: the log was not taken in\"\n", q.dropped)
	}
	select {
	case q.queue <- append(b, line...):
		q.dropped = 0
	default:
		q.dropped++
	}
	return len(line), nil
}

// Close waits until everything is written.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.queue)
	}
	q.mu.Unlock()
	<-q.done
}
