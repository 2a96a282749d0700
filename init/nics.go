package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/hal/nic"
)

// nodeFile is the configuration of the box. PID 1 wants one word from it.
const nodeFile = configDir + "/node.yaml"

// configDir is the --config directory of a member on the box.
const configDir = "/etc/twinkeep"

// selectBoard finds out which board this is: twinkeep.board= in the kernel
// command line, else "board:" in the node file, else what the firmware says.
// Whatever is wrong with the node file is for gatewayd to report.
func (m *machine) selectBoard() error {
	named := ""
	if text, err := os.ReadFile(nodeFile); err == nil {
		named = boardIn(text)
	}
	dmi, dmiErr := board.ReadDMI("/sys")
	b, err := board.Running(m.cmdline, named, dmi)
	if err != nil {
		return errors.Join(err, dmiErr)
	}
	m.board = b
	m.note("board: %s, %s", b.Name, b.Description)
	return nil
}

// boardIn returns the value of the key board in a node file, or "".
func boardIn(text []byte) (name string) {
	// The parser panics on some input that is not YAML.
	defer func() {
		if recover() != nil {
			name = ""
		}
	}()
	var file struct {
		Board string `yaml:"board"`
	}
	if yaml.Unmarshal(text, &file) != nil {
		return ""
	}
	return file.Board
}

// nics gives the NICs the names that are printed on the case.
func (m *machine) nics() error {
	found, skipped, err := nic.Scan("/sys")
	if err != nil {
		return err
	}
	for _, s := range skipped {
		if s.Fault {
			m.complain("NIC %s is left out: %s", s.Kernel, s.Reason)
		} else {
			m.note("NIC %s is left out: %s", s.Kernel, s.Reason)
		}
	}
	var table []nic.Port
	if m.board != nil {
		if table, err = m.board.Table(); err != nil {
			return fmt.Errorf("board %s: %w", m.board.Name, err)
		}
	}
	named, missing := nic.Assign(found, table)
	for _, p := range missing {
		m.complain("%v", p)
	}
	err = nic.Rename(nic.Kernel{}, named)
	var words []string
	for _, n := range named {
		words = append(words, n.Name+"="+n.Place().String())
	}
	if len(words) == 0 {
		words = []string{"none"}
	}
	milestone("NICs %s", strings.Join(words, " "))
	return err
}

// word returns the value of the last KEY=VALUE in a kernel command line.
func word(cmdline, key string) string {
	value := ""
	for _, w := range strings.Fields(cmdline) {
		if k, v, ok := strings.Cut(w, "="); ok && k == key {
			value = v
		}
	}
	return value
}
