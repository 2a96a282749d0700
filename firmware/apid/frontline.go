package apid

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/twinkeep/twinkeep/firmware/jail"
)

// FrontCommand is how the binary is called to be the front, with the directory that becomes its root.
const FrontCommand = "apid-front"

// silent is for what strangers cause: they could fill the journal.
var silent = log.New(io.Discard, "", 0)

// front is the process that speaks with the network.
type front struct{ proc *os.Process }

func (f *front) kill() { f.proc.Kill() }

// startFront starts a front on the listener. mu is held.
func (k *keeper) startFront() error {
	if t := now(); k.began != 0 && t-k.began < 2*time.Second {
		return errors.New("the front has just been started")
	}
	k.began = now()
	ln, err := k.listener.File()
	if err != nil {
		return fmt.Errorf("lend the socket to the front: %w", err)
	}
	defer ln.Close()
	cmd := exec.Command(k.Program, FrontCommand, k.root())
	cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{ln}
	cmd.SysProcAttr = jail.Attributes()
	f := &front{}
	started := make(chan error, 1)
	go func() { // the signal at the parent's death is that of the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			f.proc = cmd.Process
		}
		started <- err
		if err == nil {
			err = cmd.Wait()
			k.frontEnded(f, err)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the front: %w", err)
	}
	k.front = f
	return nil
}

// frontEnded takes the end of a front. look starts the next one.
func (k *keeper) frontEnded(f *front, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.front == f {
		k.front = nil
		k.counts.Crashes++
		k.Log.Error("the front has ended, and all connections with it", "err", err)
	}
}
