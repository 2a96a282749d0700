// Command lab-agent runs in a VM of the lab and answers the requests of the host, see package agent. The lab
// puts it into the VM beside a service file; PID 1 starts it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/agent"
)

// portWait bounds the wait for the virtio-serial port: the module may be loaded after the services start.
const portWait = 60 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "lab-agent:", err)
		os.Exit(1)
	}
}

func run() error {
	dev, err := waitForPort("/sys/class/virtio-ports", portWait)
	if err != nil {
		return err
	}
	// A blocking descriptor: with the port's host side closed the poller would spin on hang-up events.
	fd, err := unix.Open(dev, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dev, err)
	}
	port := os.NewFile(uintptr(fd), dev)
	defer port.Close()
	ready()
	var s agent.Server
	for {
		// A read ends with io.EOF as long as no host is connected.
		if err := s.Serve(port); err != nil {
			return fmt.Errorf("%s: %w", dev, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitForPort finds the device of the port with the agent's name.
func waitForPort(class string, wait time.Duration) (string, error) {
	for end := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		names, err := filepath.Glob(filepath.Join(class, "*", "name"))
		if err != nil {
			return "", err
		}
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == agent.PortName {
				return "/dev/" + filepath.Base(filepath.Dir(n)), nil
			}
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("no virtio-serial port is named %s after %v: is the module virtio_console loaded, "+
				"and was this VM started by the lab?", agent.PortName, wait)
		}
	}
}

// ready tells the supervisor that the service is up, see ARCHITECTURE.md.
func ready() {
	fd, err := strconv.Atoi(os.Getenv("TWINKEEP_READY_FD"))
	if err != nil {
		return // started by hand
	}
	f := os.NewFile(uintptr(fd), "ready")
	if f == nil {
		return
	}
	defer f.Close()
	if _, err := f.WriteString("\n"); err != nil {
		fmt.Fprintln(os.Stderr, "lab-agent: tell the supervisor that we are ready:", err)
	}
}
