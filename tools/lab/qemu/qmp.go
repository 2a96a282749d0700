package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxQMP bounds one message of QEMU. What the lab asks for is answered in some hundred bytes; queries of the
// device tree would be the largest with some 100 KiB.
const maxQMP = 1 << 20

// QMP is a connection to QEMU's control socket, for one command at a time.
type QMP struct {
	conn net.Conn
	in   *io.LimitedReader
	dec  *json.Decoder
}

// QMPError is QEMU's refusal of a command.
type QMPError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *QMPError) Error() string { return e.Class + ": " + e.Desc }

// message is anything QEMU sends: the greeting, an event or an answer.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Return   json.RawMessage `json:"return"`
	Error    *QMPError       `json:"error"`
}

// DialQMP connects and negotiates. QEMU takes one client at a time.
func DialQMP(ctx context.Context, path string) (*QMP, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP: %w", err)
	}
	q := newQMP(conn)
	if err := q.negotiate(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("QMP: %w", err)
	}
	return q, nil
}

func newQMP(conn net.Conn) *QMP {
	in := &io.LimitedReader{R: conn, N: maxQMP}
	return &QMP{conn: conn, in: in, dec: json.NewDecoder(in)}
}

func (q *QMP) negotiate(ctx context.Context) error {
	if err := q.deadline(ctx); err != nil {
		return err
	}
	m, err := q.next()
	if err != nil {
		return err
	}
	if m.Greeting == nil {
		return errors.New("no greeting: is this a QMP socket?")
	}
	return q.Execute(ctx, "qmp_capabilities", nil, nil)
}

// Close ends the connection.
func (q *QMP) Close() error { return q.conn.Close() }

func (q *QMP) deadline(ctx context.Context) error {
	d, ok := ctx.Deadline()
	if !ok {
		d = time.Now().Add(30 * time.Second) // a stuck QEMU must not hang the lab
	}
	return q.conn.SetDeadline(d)
}

// next reads one message.
func (q *QMP) next() (message, error) {
	q.in.N = maxQMP
	var m message
	if err := q.dec.Decode(&m); err != nil {
		if q.in.N <= 0 {
			return m, fmt.Errorf("message is longer than %d bytes", maxQMP)
		}
		return m, fmt.Errorf("read answer: %w", err)
	}
	return m, nil
}

// Execute runs one command. args and result may be nil. Events that arrive in between are passed over.
func (q *QMP) Execute(ctx context.Context, command string, args, result any) error {
	if err := q.deadline(ctx); err != nil {
		return err
	}
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for range 1000 { // events between a command and its answer are few
		m, err := q.next()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", command, err)
		case m.Event != "":
			continue
		case m.Error != nil:
			return fmt.Errorf("%s: %w", command, m.Error)
		case result == nil:
			return nil
		}
		if err := json.Unmarshal(m.Return, result); err != nil {
			return fmt.Errorf("%s: answer: %w", command, err)
		}
		return nil
	}
	return fmt.Errorf("%s: no answer among 1000 events", command)
}

// SetLink gives a NIC its carrier or takes it.
func (q *QMP) SetLink(ctx context.Context, nic string, up bool) error {
	return q.Execute(ctx, "set_link", map[string]any{"name": nic, "up": up}, nil)
}

// Stop stops the virtual CPU and the guest's clock.
func (q *QMP) Stop(ctx context.Context) error { return q.Execute(ctx, "stop", nil, nil) }

// Continue lets a stopped machine run; its clock goes on from where it stood.
func (q *QMP) Continue(ctx context.Context) error { return q.Execute(ctx, "cont", nil, nil) }

// Status is QEMU's run state.
func (q *QMP) Status(ctx context.Context) (string, error) {
	var r struct {
		Status string `json:"status"`
	}
	err := q.Execute(ctx, "query-status", nil, &r)
	return r.Status, err
}
