// Package board knows the machines that Twinkeep runs on. Each has one YAML file, embedded here: what its ports are
// called and where they are wired to, its serial console, its watchdog, and by what DMI strings it is recognised.
package board

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/hal/nic"
)

// Board is one board file.
type Board struct {
	Name        string `yaml:"name" need:"yes" doc:"File name without .yaml: lower-case letters, digits, - and _."`
	Description string `yaml:"description" need:"yes" doc:"What machine this is, in one line for people."`
	Arch        string `yaml:"arch" need:"yes" enum:"x86_64,aarch64" doc:"Architecture as uname -m says it."`
	// Sources are the public documents that the file was made from.
	Sources []string `yaml:"sources" doc:"Public documents that the file was made from, one a line."`
	// Match lists the machines that this file is for; any of them suffices. Without it the board is the generic one
	// of its architecture.
	Match   []Match `yaml:"match" doc:"DMI names of the machines; without it the board is the generic one of its architecture."`
	Console Console `yaml:"console" need:"yes" doc:"Serial port of the operator's console."`
	// Modules are kernel modules that PID 1 loads before the services, in this order. The image has those of all
	// boards of its architecture.
	Modules []string `yaml:"modules" doc:"Kernel modules that PID 1 loads before the services, in this order."`
	// Kernel lists options that a kernel built for this board must have, "CONFIG_X" (built in or as a module).
	Kernel []string `yaml:"kernel" doc:"Kernel options that the board needs, CONFIG_NAME: built in or as a module."`
	// Watchdog lists kernel modules of watchdog drivers; the first that finds its hardware is used.
	Watchdog []string `yaml:"watchdog" doc:"Modules of watchdog drivers to try, in this order."`
	// Ports is the port table. Without it interfaces are named G1, G2, … in the order of the PCI tree.
	Ports     []Port   `yaml:"ports" doc:"Port table; without it interfaces are G1, G2, ... in the order of the PCI tree."`
	LEDs      []LED    `yaml:"leds" doc:"Lamps that software can switch."`
	Buttons   []Button `yaml:"buttons" doc:"Buttons that software can read."`
	Sensors   []Sensor `yaml:"sensors" doc:"Temperature sensors."`
	PowerFail *Input   `yaml:"power_fail" doc:"Input that tells that the supply is failing."`
	Buzzer    *Buzzer  `yaml:"buzzer" doc:"Sounder."`
}

// Match is a pair of patterns for DMI strings. "*" stands for any text, case does not matter, and an empty pattern
// matches everything.
type Match struct {
	Vendor  string `yaml:"vendor" doc:"Pattern for DMI sys_vendor; * is any text."`
	Product string `yaml:"product" doc:"Pattern for DMI product_name; * is any text."`
}

// Console is the serial port on which the operator's console appears.
type Console struct {
	Device string `yaml:"device" need:"yes" doc:"Name in /dev: ttyS0, ttyAMA0, hvc0."`
	Baud   int    `yaml:"baud" need:"yes" doc:"Bits per second."`
}

// Port is one socket on the case.
type Port struct {
	Name string `yaml:"name" need:"yes" doc:"Printed on the case; at most 11 characters."` // nic.MaxName
	// Place is the way from the root port to the NIC, "0000:00:02.2>0000:01:00.0". A place alone, "0000:01:00.0" or
	// "1/0/0", will do where the firmware never renumbers its buses.
	Place string `yaml:"place" need:"yes" doc:"Way from the root port to the NIC: 0000:00:02.2>0000:01:00.0."`
}

// GPIO is one line of a GPIO chip.
type GPIO struct {
	Chip string `yaml:"chip" need:"yes" doc:"Label of the chip, as gpiodetect shows in brackets; * is any text."`
	// Line is the offset on the chip; Name the line's name in the kernel, which survives a change of the order.
	Line      *int   `yaml:"line" doc:"Offset of the line on the chip; or give name."`
	Name      string `yaml:"name" doc:"Name of the line in the kernel; or give line."`
	ActiveLow bool   `yaml:"active_low" doc:"Low means lit or pressed."`
	Pull      string `yaml:"pull" enum:"none,up,down" doc:"Bias of an input."`
}

// Key is a key of an input device, e.g. of gpio-keys or of ACPI's power button.
type Key struct {
	Device string `yaml:"device" need:"yes" doc:"Name of the input device (/sys/class/input/*/device/name); * is any text."`
	Code   string `yaml:"code" need:"yes" doc:"KEY_POWER and the like, or the number."`
}

// Input is a line that software reads: one of the two.
type Input struct {
	GPIO *GPIO `yaml:"gpio" doc:"Line of a GPIO chip."`
	Key  *Key  `yaml:"key" doc:"Key of an input device."`
}

// LED is a lamp: one of Class and GPIO.
type LED struct {
	Name  string `yaml:"name" need:"yes" doc:"Printed on the case, or what people call it."`
	Shows string `yaml:"shows" need:"yes" enum:"status,active,attention,power" doc:"What it tells: the status by patterns; lit while active; lit when somebody should look; lit while the firmware runs."`
	Class string `yaml:"class" doc:"Name in /sys/class/leds; * is any text, and the first match is taken."`
	GPIO  *GPIO  `yaml:"gpio" doc:"Line of a GPIO chip."`
}

// Uses of a button.
const (
	UseStatus = "status" // short: show the role; long: factory reset
	UsePower  = "power"  // switch off in order
)

// Button is a button on the case.
type Button struct {
	Name  string `yaml:"name" need:"yes" doc:"Printed on the case, or what people call it."`
	Use   string `yaml:"use" need:"yes" enum:"status,power" doc:"status: short press shows the role, long press resets to factory settings; power: switches off in order."`
	Input `yaml:",inline"`
}

// Sensor is a temperature of a hwmon chip.
type Sensor struct {
	Name  string `yaml:"name" need:"yes" doc:"What it measures: CPU, board."`
	Chip  string `yaml:"chip" need:"yes" doc:"Name of the hwmon chip (/sys/class/hwmon/*/name)."`
	Input string `yaml:"input" need:"yes" doc:"temp1, temp2, ..."`
	// Warn and Critical are in degrees Celsius; 0 takes the chip's own: temp*_crit, and 10 below it.
	Warn     int `yaml:"warn" doc:"Degrees Celsius from which it is an event; 10 below critical when left out."`
	Critical int `yaml:"critical" doc:"Degrees Celsius from which it is critical; the chip's own limit when left out."`
	// Device makes a critical temperature a problem of the critical device "temperature": the role goes to a cooler peer.
	Device   bool `yaml:"critical_device" doc:"A critical temperature makes this member unfit, so that a peer takes the role."`
	Optional bool `yaml:"optional" doc:"Its absence is no problem."`
}

// Buzzer is a sounder of the input subsystem, e.g. the PC speaker.
type Buzzer struct {
	Device string `yaml:"device" need:"yes" doc:"Name of the input device, PC Speaker; * is any text."`
}

// Problem is one thing that is wrong in a board file.
type Problem struct {
	Field string // path of the value, e.g. "ports[0].name"; empty where the file is no YAML
	Text  string // what is wrong with it
	Hint  string // what to do; may be empty
	// Line and Column say where it is, both from 1; they are 0 for a board that was not read from a file.
	Line, Column int
}

func (p Problem) Error() string {
	text := p.Text
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	if p.Line == 0 {
		return text
	}
	return fmt.Sprintf("%d:%d: %s", p.Line, p.Column, text)
}

// FileError is everything that is wrong in one board file.
type FileError struct {
	File     string
	Problems []Problem
}

// Error gives a line for each problem: "board file NAME:LINE:COLUMN: FIELD: TEXT (HINT)".
func (e *FileError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		between := ":"
		if p.Line == 0 {
			between = ": "
		}
		lines = append(lines, "board file "+e.File+between+p.Error())
	}
	return strings.Join(lines, "\n")
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
	problems = append(problems, checkPorts(b.Ports)...)
	return append(problems, b.checkParts()...)
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
