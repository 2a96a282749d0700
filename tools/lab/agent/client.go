package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/probe"
)

// ErrAgent is wrapped by errors that the agent itself answered, as opposed to those of the connection.
var ErrAgent = errors.New("agent")

// Client is the host's side. Its methods are safe for concurrent use.
type Client struct {
	conn net.Conn

	mu      sync.Mutex // guards writes, waiting, next and err
	waiting map[uint64]chan Response
	next    uint64
	err     error
}

// Dial connects to the Unix socket of a virtio-serial port. QEMU takes one client at a time; a second one waits
// without a sign, so give ctx a deadline and call Ping.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to agent: %w", err)
	}
	return NewClient(conn)
}

// NewClient uses a connection that is open already.
func NewClient(conn net.Conn) (*Client, error) {
	// IDs start somewhere, so that answers to an earlier client are not taken for ours.
	c := &Client{conn: conn, waiting: map[uint64]chan Response{}, next: uint64(rand.Uint32()) << 20}
	if _, err := conn.Write([]byte("\n")); err != nil {
		conn.Close()
		return nil, fmt.Errorf("write to agent: %w", err)
	}
	go c.read()
	return c, nil
}

func (c *Client) read() {
	r := bufio.NewReader(c.conn)
	for {
		line, err := readLine(r)
		if errors.Is(err, errLongLine) {
			continue
		}
		if err != nil {
			c.fail(fmt.Errorf("connection to agent: %w", err))
			return
		}
		var resp Response
		if json.Unmarshal(line, &resp) != nil {
			continue // the end of an answer to an earlier client
		}
		c.mu.Lock()
		ch := c.waiting[resp.ID]
		delete(c.waiting, resp.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- resp
		}
	}
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
}

// Close ends the connection. Probes and servers in the guest go on.
func (c *Client) Close() error { return c.conn.Close() }

// Call asks for a method. result may be nil.
func (c *Client) Call(ctx context.Context, method string, params, result any) error {
	p, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	ch := make(chan Response, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return fmt.Errorf("%s: %w", method, c.err)
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	if deadline, ok := ctx.Deadline(); ok {
		err = c.conn.SetWriteDeadline(deadline)
	} else {
		err = c.conn.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		err = writeLine(c.conn, Request{ID: id, Method: method, Params: p})
	}
	c.mu.Unlock()
	if err != nil {
		c.drop(id)
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case <-ctx.Done():
		c.drop(id)
		return fmt.Errorf("%s: no answer from the agent: %w", method, ctx.Err())
	case resp, ok := <-ch:
		switch {
		case !ok:
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("%s: %w", method, c.err)
		case resp.Error != "":
			return fmt.Errorf("%w: %s", ErrAgent, resp.Error)
		case result == nil:
			return nil
		}
		if err := json.Unmarshal(resp.Result, result); err != nil {
			return fmt.Errorf("%s: answer: %w", method, err)
		}
		return nil
	}
}

func (c *Client) drop(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func call[R any](ctx context.Context, c *Client, method string, params any) (R, error) {
	var r R
	err := c.Call(ctx, method, params, &r)
	return r, err
}

// Ping returns when the agent answers.
func (c *Client) Ping(ctx context.Context) error { return c.Call(ctx, MethodPing, None{}, nil) }

// Uptime is the time since the guest's kernel started.
func (c *Client) Uptime(ctx context.Context) (time.Duration, error) {
	r, err := call[UptimeResult](ctx, c, MethodUptime, None{})
	return r.Uptime, err
}

// HTTP makes a request to a server on a Unix socket of the guest.
func (c *Client) HTTP(ctx context.Context, p HTTPParams) (HTTPResult, error) {
	return call[HTTPResult](ctx, c, MethodHTTP, p)
}

// GetJSON gets a path and decodes the answer; any status but 200 is an error with the body as text.
func (c *Client) GetJSON(ctx context.Context, socket, path string, v any) error {
	r, err := c.HTTP(ctx, HTTPParams{Socket: socket, Method: "GET", Path: path})
	if err != nil {
		return err
	}
	if r.Status != 200 {
		return fmt.Errorf("GET %s of %s: status %d: %.200s", path, socket, r.Status, r.Body)
	}
	if err := json.Unmarshal([]byte(r.Body), v); err != nil {
		return fmt.Errorf("GET %s of %s: %w", path, socket, err)
	}
	return nil
}

// Exec runs a program in the guest.
func (c *Client) Exec(ctx context.Context, argv ...string) (ExecResult, error) {
	return call[ExecResult](ctx, c, MethodExec, ExecParams{Argv: argv})
}

// Feed runs a program in the guest with text on its standard input. It may take a minute.
func (c *Client) Feed(ctx context.Context, stdin string, argv ...string) (ExecResult, error) {
	return call[ExecResult](ctx, c, MethodExec, ExecParams{Argv: argv, Stdin: stdin, Timeout: time.Minute})
}

// Table is an nftables table of family inet in the guest's kernel.
func (c *Client) Table(ctx context.Context, name string) (TableResult, error) {
	return call[TableResult](ctx, c, MethodTable, TableParams{name})
}

// ReadFile reads a file of the guest.
func (c *Client) ReadFile(ctx context.Context, path string) ([]byte, error) {
	r, err := call[FileResult](ctx, c, MethodReadFile, FileParams{Path: path})
	return r.Data, err
}

// Size is the size of a file of the guest.
func (c *Client) Size(ctx context.Context, path string) (int64, error) {
	r, err := call[FileResult](ctx, c, MethodStat, FileParams{Path: path})
	return r.Size, err
}

// ServeUDP starts a UDP echo server.
func (c *Client) ServeUDP(ctx context.Context, addr netip.AddrPort) (Started, error) {
	return call[Started](ctx, c, MethodUDPEcho, EchoParams{addr})
}

// ServeTCP starts a TCP echo server.
func (c *Client) ServeTCP(ctx context.Context, addr netip.AddrPort) (Started, error) {
	return call[Started](ctx, c, MethodTCPEcho, EchoParams{addr})
}

// EchoReport says what an echo server saw.
func (c *Client) EchoReport(ctx context.Context, handle int) (probe.EchoReport, error) {
	return call[probe.EchoReport](ctx, c, MethodEchoState, Handle{handle})
}

// StartUDP starts a UDP probe.
func (c *Client) StartUDP(ctx context.Context, cfg probe.UDPConfig) (Started, error) {
	return call[Started](ctx, c, MethodUDPStart, cfg)
}

// UDPReport says what a UDP probe saw up to now.
func (c *Client) UDPReport(ctx context.Context, handle int) (probe.UDPReport, error) {
	return call[probe.UDPReport](ctx, c, MethodUDPReport, Handle{handle})
}

// StopUDP ends a UDP probe.
func (c *Client) StopUDP(ctx context.Context, handle int) (probe.UDPReport, error) {
	return call[probe.UDPReport](ctx, c, MethodUDPStop, Handle{handle})
}

// StartTCP starts a TCP probe.
func (c *Client) StartTCP(ctx context.Context, cfg probe.TCPConfig) (Started, error) {
	return call[Started](ctx, c, MethodTCPStart, cfg)
}

// TCPReport says what a TCP probe saw up to now.
func (c *Client) TCPReport(ctx context.Context, handle int) (probe.TCPReport, error) {
	return call[probe.TCPReport](ctx, c, MethodTCPReport, Handle{handle})
}

// StopTCP ends a TCP probe.
func (c *Client) StopTCP(ctx context.Context, handle int) (probe.TCPReport, error) {
	return call[probe.TCPReport](ctx, c, MethodTCPStop, Handle{handle})
}
