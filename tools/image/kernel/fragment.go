package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Option is one line of a fragment of a kernel's configuration.
type Option struct {
	Name  string // with CONFIG_
	Value string // y, n, a number, or a text in quotes
}

func (o Option) String() string { return o.Name + "=" + o.Value }

var optionLine = regexp.MustCompile(`^(CONFIG_[A-Z0-9_a-z]+)=(y|n|-?[0-9]+|0x[0-9a-fA-F]+|"[^"\\]*")$`)

// ParseFragment reads the options that our own kernel is asked for. An error
// names the line. "m" is refused: there are no modules.
func ParseFragment(text []byte) ([]Option, error) {
	var out []Option
	first := make(map[string]int)
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := optionLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d: want CONFIG_NAME=y, =n, =number or =\"text\", have %q", n, line)
		}
		if f, dup := first[m[1]]; dup {
			return nil, fmt.Errorf("line %d: %s is already on line %d", n, m[1], f)
		}
		first[m[1]] = n
		out = append(out, Option{m[1], m[2]})
	}
	return out, sc.Err()
}

// Lost returns what was asked for and is not in a configuration (.config), each
// with what is there instead. Kconfig says nothing when it drops an option
// because it does not exist or something it depends on is off.
func Lost(config []byte, asked []Option) []string {
	have := settings(config)
	var lost []string
	for _, o := range asked {
		got, ok := have[o.Name]
		if !ok {
			got = "n"
		}
		if got != o.Value {
			lost = append(lost, fmt.Sprintf("%v (is %s)", o, got))
		}
	}
	return lost
}

// settings reads a configuration; what is not set is not in it.
func settings(config []byte) map[string]string {
	have := make(map[string]string)
	for line := range bytes.Lines(config) {
		if k, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte("=")); ok {
			have[string(k)] = string(v)
		}
	}
	return have
}
