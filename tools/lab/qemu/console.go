package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
)

// Console is the serial console of a machine, read until the machine ends. Everything it says is kept. Its methods are safe for concurrent
// use, but two Expects at a time would take each other's text.
type Console struct {
	process *Process
	conn    net.Conn
	ended   chan struct{}

	mu    sync.Mutex
	text  []byte
	from  int           // where the next Expect begins
	fresh chan struct{} // closed by new text
}

// OpenConsole connects to the console's socket, which takes one client. What the console says is appended to the file log.
func (p *Process) OpenConsole(ctx context.Context, socket, log string) (*Console, error) {
	conn, err := p.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Console{process: p, conn: conn, ended: make(chan struct{}), fresh: make(chan struct{})}
	go c.listen(out)
	return c, nil
}

func (c *Console) listen(log *os.File) {
	defer close(c.ended)
	defer log.Close()
	defer c.conn.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		log.Write(buf[:n])
		c.mu.Lock()
		c.text = append(c.text, buf[:n]...)
		close(c.fresh)
		c.fresh = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Ended is closed when the machine has ended and everything it said is there.
func (c *Console) Ended() <-chan struct{} { return c.ended }

// Type types on the console.
func (c *Console) Type(text string) error {
	_, err := c.conn.Write([]byte(text))
	return err
}

// Enter types a line.
func (c *Console) Enter(line string) error { return c.Type(line + "\r") }

// Said is everything since the machine was switched on.
func (c *Console) Said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Expect waits until the console says something that matches, behind what the last Expect matched, and returns the match and its groups.
func (c *Console) Expect(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for {
		ended := c.isEnded() // before the search: then nothing can come after it
		found, fresh, last := c.search(re)
		switch {
		case found != nil:
			return found, nil
		case ended:
			err := c.process.Wait(ctx)
			return nil, fmt.Errorf("the machine ended (%v) before it said %q; it said last:\n%s", err, pattern, last)
		}
		select {
		case <-fresh:
		case <-c.ended:
		case <-ctx.Done():
			return nil, fmt.Errorf("the machine did not say %q: %w; it said last:\n%s", pattern, ctx.Err(), last)
		}
	}
}

func (c *Console) isEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// search looks for a match and moves behind it. Without one it tells what announces new text, and the last of what there was.
func (c *Console) search(re *regexp.Regexp) (found []string, fresh <-chan struct{}, last []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.text[c.from:]
	at := re.FindSubmatchIndex(rest)
	if at == nil {
		return nil, c.fresh, rest[max(0, len(rest)-2000):]
	}
	for i := 0; i < len(at); i += 2 {
		group := ""
		if at[i] >= 0 {
			group = string(rest[at[i]:at[i+1]])
		}
		found = append(found, group)
	}
	c.from += at[1]
	return found, nil, nil
}
