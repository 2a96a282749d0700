package main

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is a terminal that somebody looks at.
type screen struct {
	*os.File
	t *testing.T

	mu   sync.Mutex
	seen []byte
	from int // where the next expect begins
}

// watch reads a terminal until it hangs up.
func watch(t *testing.T, terminal *os.File) *screen {
	s := &screen{File: terminal, t: t}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			s.mu.Lock()
			s.seen = append(s.seen, buf[:n]...)
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.seen)
}

// expect waits for text, behind what was expected before.
func (s *screen) expect(text string) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		all := s.text()
		if i := strings.Index(all[s.from:], text); i >= 0 {
			s.from += i + len(text)
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("no %q:\n%s", text, all)
		}
	}
}
