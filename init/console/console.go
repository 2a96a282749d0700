// Package console finds the terminals on which an operator can work: those the
// kernel was told to use.
package console

import (
	"path/filepath"
	"slices"
	"strings"
)

// Default is the terminal when the command line names none: the kernel's own
// choice.
const Default = "/dev/console"

// Devices returns the terminals named by console= in a kernel command line, in
// order, without repetition. exists says whether a device is there; one that is
// not (a UART that the board does not have) is left out. The virtual terminal
// tty0 stands for tty1, which is where a person looks. If none is left, it is
// the board's serial port (its name in /dev, may be empty), or Default.
func Devices(cmdline, serial string, exists func(string) bool) []string {
	var out []string
	for _, word := range strings.Fields(cmdline) {
		value, ok := strings.CutPrefix(word, "console=")
		if !ok {
			continue
		}
		// console=ttyS0,115200n8
		name, _, _ := strings.Cut(value, ",")
		if name == "tty0" || name == "tty" {
			name = "tty1"
		}
		if name == "" || name == "null" || name != filepath.Base(name) {
			continue
		}
		dev := "/dev/" + name
		if exists(dev) && !slices.Contains(out, dev) {
			out = append(out, dev)
		}
	}
	switch {
	case len(out) > 0:
		return out
	case serial != "" && exists("/dev/"+serial):
		return []string{"/dev/" + serial}
	}
	return []string{Default}
}
