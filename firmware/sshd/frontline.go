package sshd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/twinkeep/twinkeep/firmware/jail"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// FrontCommand is how the binary is called to be the front, with the directory that becomes its root.
const FrontCommand = "sshd-front"

// front is the keeper's end of the front.
type front struct {
	channel
	proc *os.Process
}

// kill ends the front; its reader notices.
func (f *front) kill() { f.proc.Kill() }

// errSoon keeps a front that cannot live from being started over and over.
var errSoon = errors.New("the front has just been started")

// ensureFront gives the front, and starts it where there is none. mu is held.
func (k *keeper) ensureFront() (*front, error) {
	if k.front != nil {
		return k.front, nil
	}
	now := supervise.Uptime()
	if k.began != 0 && now-k.began < time.Second {
		return nil, errSoon
	}
	k.began, k.idle = now, now
	root := filepath.Join(k.RunDir, "sshd.empty")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, errors.New("the front has no directory")
	}
	ours, theirs, err := channelPair()
	if err != nil {
		k.Log.Error("no socket for the front", "err", err)
		return nil, errors.New("there is no socket for the front")
	}
	defer theirs.Close()
	f := &front{channel: ours}
	cmd := exec.Command(k.Program, FrontCommand, root)
	cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = jail.Attributes()
	ended, err := start(cmd)
	if err != nil {
		ours.Close()
		k.Log.Error("the front does not start", "err", err)
		return nil, errors.New("the front does not start")
	}
	f.proc = cmd.Process
	k.front = f
	if err := f.send(message{Op: opReply, Key: k.host.PublicKey().Marshal()}); err != nil {
		f.kill()
	}
	go k.serve(f, ended)
	return f, nil
}

// start starts a process from a thread that lives as long as it does: the signal at the parent's death is that of the
// thread. ended is closed when it is over.
func start(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // ProcessState tells the rest
		}
	}()
	return done, <-started
}

// serve does what the front asks for, until it is gone.
func (k *keeper) serve(f *front, ended <-chan struct{}) {
	buf := make([]byte, maxMessage)
	var err error
	for err == nil {
		var m message
		var fds []int
		if m, fds, err = f.receive(buf); err == nil {
			closeAll(fds) // it has none to give
			err = k.asked(f, m)
		}
	}
	f.kill()
	f.Close()
	<-ended
	k.mu.Lock()
	defer k.mu.Unlock()
	k.front = nil
	if n := len(k.conns); n > 0 {
		k.counts.Crashes++
		k.Log.Error("the front has ended, and all connections with it", "connections", n, "err", err)
	}
	for id := range k.conns {
		k.gone(id)
	}
}

// asked takes one message of the front. An error ends the front: it is not what it should be.
func (k *keeper) asked(f *front, m message) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	reply := message{Op: opReply, ID: m.ID}
	switch m.Op {
	case opClosed:
		k.closed(m)
		return nil
	case opDone:
		if s := k.sessions[m.Session]; s != nil {
			s.end()
		}
		return nil
	case opSign:
		if err := k.sign(m, &reply); err != nil {
			return err
		}
	case opPassword:
		if why := k.password(f, m); why != "" {
			reply.Error = why
			break
		}
		return nil // the answer comes later
	case opKey, opLogin:
		reply.Error = k.publicKey(m)
	case opOpen:
		return k.open(f, m, reply)
	default:
		return fmt.Errorf("the front asks for %.20q", m.Op)
	}
	return f.send(reply)
}
