package gatewayd

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/hal/nic"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// hardware describes the box. What cannot be found out is named in Problems; the rest is given.
func hardware(n *node.Node) api.Hardware {
	h := api.Hardware{
		CPU:      field("/proc/cpuinfo", "model name"),
		Cores:    runtime.NumCPU(),
		Uptime:   supervise.Uptime(),
		Watchdog: firstLine("/sys/class/watchdog/watchdog0/identity"),
	}
	h.MemoryTotal, h.MemoryFree = memory("MemTotal"), memory("MemAvailable")
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	problem := func(err error) {
		if err != nil {
			h.Problems = append(h.Problems, err.Error())
		}
	}
	dmi, err := board.ReadDMI("/sys")
	problem(err)
	h.Vendor, h.Product = dmi.Vendor, dmi.Product
	cmdline, err := os.ReadFile("/proc/cmdline")
	problem(err)
	b, err := board.Running(string(cmdline), n.Board, dmi)
	if problem(err); err == nil {
		h.Board, h.BoardText = b.Name, b.Description
	}
	cards, skipped, err := nic.Scan("/sys")
	problem(err)
	for _, s := range skipped {
		if s.Fault {
			h.Problems = append(h.Problems, s.Kernel+": "+s.Reason)
		}
	}
	for _, c := range cards {
		card := api.NIC{
			Device: c.Kernel, Place: c.Place().String(), Driver: c.Driver, MAC: c.MAC.String(),
			NN: numberOf(n, c), IDs: fmt.Sprintf("%04x:%04x", c.Vendor, c.Device),
		}
		for _, f := range n.Interfaces {
			if f.Device == c.Kernel {
				card.Interface = f.Name
			}
		}
		if n.Cluster != nil {
			card.SharedMAC = nic.SharedMAC(card.NN, n.Cluster.ID).String()
		}
		h.NICs = append(h.NICs, card)
	}
	return h
}

// numberOf is the NN of a card: as set by hand, else from its place.
func numberOf(n *node.Node, c nic.NIC) uint8 {
	for _, f := range n.Interfaces {
		if f.Device == c.Kernel && f.NN != nil {
			return *f.NN
		}
	}
	return nic.NN(c.Place())
}

// field is the value of the first "name: value" line of a file in /proc.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memory is a line of /proc/meminfo in bytes.
func memory(name string) uint64 {
	kb, err := strconv.ParseUint(strings.TrimSuffix(field("/proc/meminfo", name), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}
