package console

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is what the operator sees.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	seen int
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// expect waits for text behind what was expected before, and gives all up to it.
func (s *screen) expect(t *testing.T, text string) string {
	t.Helper()
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		rest := s.text.String()[s.seen:]
		if i := strings.Index(rest, text); i >= 0 {
			s.seen += i + len(text)
			s.mu.Unlock()
			return rest[:i+len(text)]
		}
		s.mu.Unlock()
		if time.Since(start) > 5*time.Second {
			t.Fatalf("no %q in:\n%s", text, rest)
		}
	}
}

// operator is a person at the console.
type operator struct {
	*screen
	t    *testing.T
	keys io.Writer
	end  func()
	done chan error
}

func newOperator(t *testing.T, run string) *operator {
	t.Helper()
	return operatorAt(t, run, "")
}

// operatorAt is at the console of a device: with a config directory it asks for a password, and sets up.
func operatorAt(t *testing.T, run, config string) *operator {
	t.Helper()
	in, keys := io.Pipe()
	o := &operator{screen: new(screen), t: t, keys: keys, end: func() { keys.Close() }, done: make(chan error, 1)}
	go func() {
		o.done <- Interactive(t.Context(), in, o.screen, Options{Run: run, Version: "0.1", Patience: 200 * time.Millisecond, ConfigDir: config})
	}()
	t.Cleanup(o.end)
	return o
}

func (o *operator) types(s string) {
	o.t.Helper()
	if _, err := io.WriteString(o.keys, s); err != nil {
		o.t.Fatal(err)
	}
}

// left waits for the console to end.
func (o *operator) left() {
	o.t.Helper()
	select {
	case err := <-o.done:
		if err != nil {
			o.t.Error(err)
		}
	case <-time.After(5 * time.Second):
		o.t.Error("the console does not end")
	}
}
