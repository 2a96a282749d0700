// Package board knows the machines that Twinkeep runs on. Each has one YAML file, embedded here: what its ports are
// called and where they are wired to, its serial console, its watchdog, and by what DMI strings it is recognised.
package board

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/hal/nic"
)

// Board is one board file.
type Board struct {
	Name        string `yaml:"name"`        // file name without .yaml: lower-case letters, digits, - and _
	Description string `yaml:"description"` // one line for people
	Arch        string `yaml:"arch"`        // as uname -m says: x86_64 or aarch64
	// Match lists the machines that this file is for; any of them suffices. Without it the board is the generic one
	// of its architecture.
	Match   []Match `yaml:"match"`
	Console Console `yaml:"console"`
	// Watchdog lists kernel modules of watchdog drivers; the first that finds its hardware is used.
	Watchdog []string `yaml:"watchdog"`
	// Ports is the port table. Without it interfaces are named G1, G2, … in the order of the PCI tree.
	Ports []Port `yaml:"ports"`
}

// Match is a pair of patterns for DMI strings. "*" stands for any text, case does not matter, and an empty pattern
// matches everything.
type Match struct {
	Vendor  string `yaml:"vendor"`  // for sys_vendor
	Product string `yaml:"product"` // for product_name
}

// Console is the serial port on which the operator's console appears.
type Console struct {
	Device string `yaml:"device"` // name in /dev, e.g. "ttyS0"
	Baud   int    `yaml:"baud"`   // bits per second
}

// Port is one socket on the case.
type Port struct {
	Name string `yaml:"name"` // at most nic.MaxName characters
	// Place is the way from the root port to the NIC, "0000:00:02.2>0000:01:00.0". A place alone, "0000:01:00.0" or
	// "1/0/0", will do where the firmware never renumbers its buses.
	Place string `yaml:"place"`
}

// Problem is one thing that is wrong in a board file.
type Problem struct {
	Field string // path of the value, e.g. "ports[0].name"
	Text  string // what is wrong with it
	// Line and Column say where it is, both from 1; they are 0 for a board that was not read from a file.
	Line, Column int
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return p.Field + ": " + p.Text
	}
	return fmt.Sprintf("%d:%d: %s: %s", p.Line, p.Column, p.Field, p.Text)
}

var (
	boardName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	ttyName   = regexp.MustCompile(`^(tty(S|AMA|MSM|PS|SC|mxc|O)|hvc)[0-9]{1,3}$`)
	modName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,54}$`)
	arches    = []string{"x86_64", "aarch64"}
	bauds     = []int{9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1500000}
)

// Check returns what is wrong with b, in the order of the fields; nothing if all is well.
func (b *Board) Check() []Problem {
	var problems []Problem
	bad := func(field, format string, args ...any) {
		problems = append(problems, Problem{Field: field, Text: fmt.Sprintf(format, args...)})
	}
	if !boardName.MatchString(b.Name) {
		bad("name", "%q: want lower-case letters, digits, - and _", b.Name)
	}
	if b.Description == "" {
		bad("description", "is missing: say in a line what machine this is")
	}
	if !slices.Contains(arches, b.Arch) {
		bad("arch", "%q: want one of %s", b.Arch, strings.Join(arches, ", "))
	}
	for i, m := range b.Match {
		if strings.Trim(m.Vendor+m.Product, "* ") == "" {
			bad(fmt.Sprintf("match[%d]", i), "matches every machine: give vendor, product or both")
		}
	}
	if !ttyName.MatchString(b.Console.Device) {
		bad("console.device", "%q is not a serial port: want a name in /dev such as ttyS0, ttyAMA0 or hvc0", b.Console.Device)
	}
	if !slices.Contains(bauds, b.Console.Baud) {
		bad("console.baud", "%d is not a usual speed: want one of %s", b.Console.Baud, strings.Trim(fmt.Sprint(bauds), "[]"))
	}
	for i, driver := range b.Watchdog {
		field := fmt.Sprintf("watchdog[%d]", i)
		if !modName.MatchString(driver) {
			bad(field, "%q is not the name of a kernel module", driver)
		} else if slices.Contains(b.Watchdog[:i], driver) {
			bad(field, "%q is listed twice", driver)
		}
	}
	return append(problems, checkPorts(b.Ports)...)
}

func checkPorts(ports []Port) []Problem {
	var problems []Problem
	bad := func(i int, field, text string) {
		problems = append(problems, Problem{Field: fmt.Sprintf("ports[%d].%s", i, field), Text: text})
	}
	paths := make([]nic.Path, len(ports))
	for i, p := range ports {
		if err := nic.CheckName(p.Name); err != nil {
			bad(i, "name", err.Error())
		} else if j := slices.IndexFunc(ports[:i], func(q Port) bool { return strings.EqualFold(p.Name, q.Name) }); j >= 0 {
			// Linux would tell G1 from g1, people on the telephone do not.
			bad(i, "name", fmt.Sprintf("%q is already the name of ports[%d]", p.Name, j))
		}
		path, err := nic.ParsePath(p.Place)
		if err != nil {
			bad(i, "place", err.Error())
			continue
		}
		for j, q := range paths[:i] {
			if len(q) > 0 && (path.Names(q) || q.Names(path)) {
				bad(i, "place", fmt.Sprintf("%s is already the place of port %q", p.Place, ports[j].Name))
				break
			}
		}
		paths[i] = path
	}
	return problems
}

// Table returns the ports in the form that nic.Assign takes. It fails only for a board that Check finds fault with.
func (b *Board) Table() ([]nic.Port, error) {
	var table []nic.Port
	for _, p := range b.Ports {
		path, err := nic.ParsePath(p.Place)
		if err != nil {
			return nil, fmt.Errorf("board %s: port %s: %w", b.Name, p.Name, err)
		}
		table = append(table, nic.Port{Name: p.Name, Path: path})
	}
	return table, nil
}

func joinProblems(file string, problems []Problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("board file %s:%w", file, p))
	}
	return errors.Join(errs...)
}
