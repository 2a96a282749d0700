package sshd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// lateOutput is how long the output of a console that has ended may take to be sent.
const lateOutput = 5 * time.Second

// view is one session channel (RFC 4254, 6): what a client sees of one console.
type view struct {
	*speaker
	conn     uint64
	ch       ssh.Channel
	terminal *terminal

	started bool
	session uint64
	exit    chan int
	files   []*os.File // the terminal, or stdin, stdout, stderr
	over    chan struct{}
}

// Requests of a session (RFC 4254, 6.2, 6.5, 6.7).
type (
	ptyRequest struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	sizeRequest struct{ Cols, Rows, Width, Height uint32 }
	execRequest struct{ Command string }
)

// serve takes the requests of the channel until it is closed.
func (v *view) serve(requests <-chan *ssh.Request) {
	v.over = make(chan struct{})
	var running sync.WaitGroup
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			var p ptyRequest
			if ok = !v.started && ssh.Unmarshal(r.Payload, &p) == nil && termNames.MatchString(p.Term); ok {
				v.terminal = &terminal{Type: p.Term, Cols: size(p.Cols), Rows: size(p.Rows)}
			}
		case "window-change":
			var p sizeRequest
			if ok = ssh.Unmarshal(r.Payload, &p) == nil; ok {
				v.resize(size(p.Cols), size(p.Rows))
			}
		case "shell":
			ok = v.start(nil)
		case "exec":
			var p execRequest
			ok = ssh.Unmarshal(r.Payload, &p) == nil && v.start(&p.Command)
		}
		// Everything else is refused: subsystems (sftp), variables, agents, X11.
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if ok && v.started && (r.Type == "shell" || r.Type == "exec") {
			running.Go(v.run) // behind the reply, or its output would come first
		}
	}
	close(v.over)
	running.Wait()
	v.ch.Close()
}

// size bounds what a client says of its window.
func size(n uint32) uint16 { return uint16(min(n, 1000)) }

func (v *view) resize(cols, rows uint16) {
	if v.terminal == nil || cols == 0 || rows == 0 {
		return
	}
	v.terminal.Cols, v.terminal.Rows = cols, rows
	if len(v.files) == 1 {
		// Not by Fd: that would make it block, and Close would wait for Read.
		if raw, err := v.files[0].SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}) })
		}
	}
}

// start asks for the console.
func (v *view) start(command *string) bool {
	if v.started || command != nil && len(*command) > maxCommand {
		return false
	}
	a, err := v.ask(message{Op: opOpen, Conn: v.conn, Terminal: v.terminal, Command: command})
	if err != nil {
		fmt.Fprintf(v.ch.Stderr(), "%v\r\n", err)
		return false
	}
	v.started, v.session, v.exit = true, a.Session, a.exit
	for _, fd := range a.fds {
		unix.SetNonblock(fd, true) // so that Close ends a Read
		v.files = append(v.files, os.NewFile(uintptr(fd), "console"))
	}
	return true
}

// run carries bytes until the console ends, or the client leaves.
func (v *view) run() {
	defer func() {
		for _, f := range v.files {
			f.Close()
		}
		v.keeper.send(message{Op: opDone, Session: v.session})
	}()
	var out sync.WaitGroup
	switch len(v.files) {
	case 1:
		go io.Copy(v.files[0], v.ch)
		out.Go(func() { io.Copy(v.ch, v.files[0]) })
	case 3:
		go func() {
			io.Copy(v.files[0], v.ch)
			v.files[0].Close()
		}()
		out.Go(func() { io.Copy(v.ch, v.files[1]) })
		out.Go(func() { io.Copy(v.ch.Stderr(), v.files[2]) })
	default:
		return
	}
	select {
	case <-v.over:
		return
	case code := <-v.exit:
		written := make(chan struct{})
		go func() { out.Wait(); close(written) }()
		select {
		case <-written:
		case <-v.over:
			return
		case <-time.After(lateOutput):
		}
		v.ch.CloseWrite()
		v.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(code)}))
		v.ch.Close()
	}
}
