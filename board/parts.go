package board

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	optionName = regexp.MustCompile(`^CONFIG_[A-Z0-9_]{1,60}$`)
	tempInput  = regexp.MustCompile(`^temp[1-9][0-9]?$`)
	shown      = []string{"status", "active", "attention", "power"}
	uses       = []string{UseStatus, UsePower}
	pulls      = []string{"", "none", "up", "down"}
)

// Limits of a board file, far above what a case has room for.
const (
	maxParts = 32  // of LEDs, buttons, sensors
	maxLine  = 511 // GPIO offset
	maxKey   = 0x2ff
	// Temperatures beyond these are typing errors.
	minCelsius, maxCelsius = 20, 150
)

// keyCodes names the keys that buttons of appliances have, from linux/input-event-codes.h.
var keyCodes = map[string]uint16{
	"KEY_POWER": 116, "KEY_PAUSE": 119, "KEY_SETUP": 141, "KEY_SLEEP": 142, "KEY_PROG1": 148, "KEY_CONFIG": 171,
	"KEY_SUSPEND": 205, "KEY_BATTERY": 236, "KEY_POWER2": 356, "KEY_VENDOR": 360, "KEY_RESTART": 408,
	"KEY_WPS_BUTTON": 529, "BTN_0": 256, "BTN_1": 257,
}

// KeyCode is the number of the key; ok is false when Check finds fault with it.
func (k *Key) KeyCode() (code uint16, ok bool) {
	if code, ok := keyCodes[k.Code]; ok {
		return code, true
	}
	n, err := strconv.ParseUint(k.Code, 10, 16)
	return uint16(n), err == nil && n > 0 && n <= maxKey
}

// checker collects problems of LEDs, buttons, sensors and the rest.
type checker struct {
	problems []Problem
	lines    map[string]string // GPIO line -> who has it
}

func (c *checker) bad(field, hint, format string, args ...any) {
	c.problems = append(c.problems, Problem{Field: field, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

func (b *Board) checkParts() []Problem {
	c := &checker{lines: make(map[string]string)}
	for i, s := range b.Sources {
		if strings.TrimSpace(s) == "" {
			c.bad(fmt.Sprintf("sources[%d]", i), "name the document", "is empty")
		}
	}
	for i, m := range b.Modules {
		if field := fmt.Sprintf("modules[%d]", i); !modName.MatchString(m) {
			c.bad(field, "the name as lsmod shows it", "%q is not the name of a kernel module", m)
		} else if slices.Contains(b.Modules[:i], m) {
			c.bad(field, "remove one of them", "%q is listed twice", m)
		}
	}
	for i, o := range b.Kernel {
		if !optionName.MatchString(o) {
			c.bad(fmt.Sprintf("kernel[%d]", i), "CONFIG_ and the name, without a value", "%q is not a kernel option", o)
		}
	}
	c.leds(b.LEDs)
	c.buttons(b.Buttons)
	c.sensors(b.Sensors)
	if b.PowerFail != nil {
		c.input("power_fail", b.PowerFail)
	}
	if b.Buzzer != nil && b.Buzzer.Device == "" {
		c.bad("buzzer.device", "the PC's is called: PC Speaker", "is missing")
	}
	return c.problems
}

// list checks what all lists of named parts have in common.
func (c *checker) list(field string, names []string) {
	if len(names) > maxParts {
		c.bad(field, "", "has %d entries, at most %d are allowed", len(names), maxParts)
	}
	for i, n := range names {
		at := fmt.Sprintf("%s[%d].name", field, i)
		if n == "" || len(n) > 32 || strings.TrimSpace(n) != n || strings.ContainsAny(n, "\n\t") {
			c.bad(at, "what is printed beside it on the case", "%q: want 1 to 32 characters on one line", n)
		} else if slices.Contains(names[:i], n) {
			c.bad(at, "", "%q is already the name of another one", n)
		}
	}
}

func (c *checker) leds(leds []LED) {
	var names []string
	for _, l := range leds {
		names = append(names, l.Name)
	}
	c.list("leds", names)
	for i, l := range leds {
		at := fmt.Sprintf("leds[%d]", i)
		if !slices.Contains(shown, l.Shows) {
			c.bad(at+".shows", "with one lamp take status", "%q: want one of %s", l.Shows, strings.Join(shown, ", "))
		}
		switch {
		case (l.Class == "") == (l.GPIO == nil):
			c.bad(at, "class: for a lamp in /sys/class/leds, gpio: for a bare line", "want one of class and gpio")
		case l.GPIO != nil:
			c.gpio(at+".gpio", l.GPIO)
			if l.GPIO.Pull != "" {
				c.bad(at+".gpio.pull", "remove it", "an output has no pull")
			}
		case strings.ContainsAny(l.Class, "/\n") || strings.Trim(l.Class, "*") == "":
			c.bad(at+".class", "see ls /sys/class/leds", "%q is not the name of a lamp", l.Class)
		}
	}
}

func (c *checker) buttons(buttons []Button) {
	var names []string
	for _, b := range buttons {
		names = append(names, b.Name)
	}
	c.list("buttons", names)
	for i, b := range buttons {
		at := fmt.Sprintf("buttons[%d]", i)
		if !slices.Contains(uses, b.Use) {
			c.bad(at+".use", "", "%q: want one of %s", b.Use, strings.Join(uses, ", "))
		}
		c.input(at, &b.Input)
	}
}

func (c *checker) sensors(sensors []Sensor) {
	var names []string
	for _, s := range sensors {
		names = append(names, s.Name)
	}
	c.list("sensors", names)
	for i, s := range sensors {
		at := fmt.Sprintf("sensors[%d]", i)
		if s.Chip == "" || strings.ContainsAny(s.Chip, "/\n") {
			c.bad(at+".chip", "see cat /sys/class/hwmon/*/name", "%q is not the name of a chip", s.Chip)
		}
		if !tempInput.MatchString(s.Input) {
			c.bad(at+".input", "temp1 for temp1_input", "%q: want temp1 to temp99", s.Input)
		}
		for _, t := range []struct {
			field string
			value int
		}{{".warn", s.Warn}, {".critical", s.Critical}} {
			if t.value != 0 && (t.value < minCelsius || t.value > maxCelsius) {
				c.bad(at+t.field, "degrees Celsius", "%d is not between %d and %d", t.value, minCelsius, maxCelsius)
			}
		}
		if s.Warn != 0 && s.Critical != 0 && s.Warn >= s.Critical {
			c.bad(at+".warn", "warn comes before critical", "%d is not below critical, %d", s.Warn, s.Critical)
		}
	}
}

func (c *checker) input(at string, in *Input) {
	switch {
	case (in.GPIO == nil) == (in.Key == nil):
		c.bad(at, "gpio: for a bare line, key: for an input device", "want one of gpio and key")
	case in.GPIO != nil:
		c.gpio(at+".gpio", in.GPIO)
	default:
		if in.Key.Device == "" || strings.Trim(in.Key.Device, "*") == "" {
			c.bad(at+".key.device", "see cat /sys/class/input/event*/device/name", "%q is not the name of an input device", in.Key.Device)
		}
		if _, ok := in.Key.KeyCode(); !ok {
			c.bad(at+".key.code", fmt.Sprintf("KEY_POWER, KEY_RESTART and the like, or a number up to %d", maxKey), "%q is not a key that is known", in.Key.Code)
		}
	}
}

func (c *checker) gpio(at string, g *GPIO) {
	if g.Chip == "" || strings.Trim(g.Chip, "*") == "" {
		c.bad(at+".chip", "see gpiodetect", "%q is not the label of a GPIO chip", g.Chip)
	}
	if !slices.Contains(pulls, g.Pull) {
		c.bad(at+".pull", "", "%q: want one of none, up, down", g.Pull)
	}
	var line string
	switch {
	case (g.Line == nil) == (g.Name == ""):
		c.bad(at, "line: 3, or name: front-button", "want one of line and name")
		return
	case g.Line != nil && (*g.Line < 0 || *g.Line > maxLine):
		c.bad(at+".line", "see gpioinfo", "%d is not between 0 and %d", *g.Line, maxLine)
		return
	case g.Line != nil:
		line = strconv.Itoa(*g.Line)
	default:
		line = "name " + g.Name
	}
	key := g.Chip + " line " + line
	if who, taken := c.lines[key]; taken {
		c.bad(at, "", "%s belongs to %s already", key, who)
	}
	c.lines[key] = strings.TrimSuffix(at, ".gpio")
}
