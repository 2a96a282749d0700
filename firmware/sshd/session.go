package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// CommandFlag and those beside it are how the binary is called to be a console of the network.
const (
	ConsoleCommand = "cli"
	CommandFlag    = "command"  // run this line, not the interactive console
	OperatorFlag   = "operator" // who has logged in, for the log
	SourceFlag     = "source"   // address and port of his connection
	AuditFlag      = "audit-fd" // where to say what was changed
)

// maxCommand bounds a command line, in bytes.
const maxCommand = 8 << 10

// session is one console that runs.
type session struct {
	id     uint64
	conn   *conn
	proc   *os.Process
	ending bool
	ended  chan struct{}
}

// end has the console end: its terminal hangs up. What does not within the time is killed.
func (s *session) end() {
	if s.ending {
		return
	}
	s.ending = true
	go func() {
		select {
		case <-s.ended:
			return
		case <-time.After(200 * time.Millisecond): // a terminal that is closed says the same
		}
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGKILL} {
			s.proc.Signal(sig) // fails harmlessly when it has ended
			select {
			case <-s.ended:
				return
			case <-time.After(10 * time.Second):
			}
		}
	}()
}

var termNames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$`)

// open starts a console and gives its descriptors to the front: the terminal, or the three pipes. mu is held.
func (k *keeper) open(f *front, m message, reply message) error {
	c := k.conns[m.Conn]
	switch {
	case c == nil || !c.known:
		reply.Error = refusedUnknown
	case c.sessions >= maxPerLogin || len(k.sessions) >= maxSessions:
		reply.Error = "too many consoles are open"
	case m.Command != nil && len(*m.Command) > maxCommand:
		reply.Error = fmt.Sprintf("a command has at most %d bytes", maxCommand)
	}
	if reply.Error != "" {
		return f.send(reply)
	}
	args := []string{ConsoleCommand, "--run", k.RunDir, "--config", k.ConfigDir, "--" + AuditFlag, "3",
		"--" + OperatorFlag, fmt.Sprintf("%s from %s by %s", c.user, c.source.Addr(), c.by), "--" + SourceFlag, c.source.String()}
	if m.Command != nil {
		args = append(args, "--"+CommandFlag, *m.Command)
	}
	cmd := exec.Command(k.Program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}
	cmd.ExtraFiles = []*os.File{os.Stderr}
	ours, err := attach(cmd, m.Terminal)
	var ended <-chan struct{}
	if err == nil {
		ended, err = start(cmd)
		for _, file := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
			file.(*os.File).Close()
		}
	}
	if err != nil {
		k.Log.Error("no console", "err", err)
		reply.Error = "the console does not start"
		closeAll(ours)
		return f.send(reply)
	}
	k.last++
	s := &session{id: k.last, conn: c, proc: cmd.Process, ended: make(chan struct{})}
	k.sessions[s.id] = s
	c.sessions++
	k.counts.Sessions++
	reply.Session = s.id
	err = f.send(reply, ours...)
	closeAll(ours)
	go k.await(f, s, cmd, ended)
	return err
}

// attach gives a console its terminal, or three pipes, and itself the other ends.
func attach(cmd *exec.Cmd, t *terminal) (ours []int, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if t != nil {
		return attachTerminal(cmd, t)
	}
	var fds [3][2]int
	for i := range fds {
		if err := unix.Pipe2(fds[i][:], unix.O_CLOEXEC); err != nil {
			for _, p := range fds[:i] {
				closeAll(p[:])
			}
			return nil, os.NewSyscallError("pipe2", err)
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.NewFile(uintptr(fds[0][0]), "stdin"), os.NewFile(uintptr(fds[1][1]), "stdout"), os.NewFile(uintptr(fds[2][1]), "stderr")
	return []int{fds[0][1], fds[1][0], fds[2][0]}, nil
}

func attachTerminal(cmd *exec.Cmd, t *terminal) ([]int, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer master.Close()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		slave.Close()
		return nil, err
	}
	if t.Cols > 0 && t.Rows > 0 {
		pty.Setsize(slave, &pty.Winsize{Cols: t.Cols, Rows: t.Rows}) // without it the console takes 80 columns
	}
	if termNames.MatchString(t.Type) {
		cmd.Env = append(cmd.Env, "TERM="+t.Type)
	}
	// cmd closes nothing it was given, so one file in three places is closed three times; the last two say so to nobody.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	return []int{fd}, nil
}

// await tells the front how a console has ended.
func (k *keeper) await(f *front, s *session, cmd *exec.Cmd, ended <-chan struct{}) {
	<-ended
	close(s.ended)
	code := cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.sessions, s.id)
	s.conn.sessions--
	if k.front == f {
		if err := f.send(message{Op: opExited, Session: s.id, Code: code}); err != nil {
			f.kill()
		}
	}
}
