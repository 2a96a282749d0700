package node

import (
	"fmt"
	"strings"
)

// Problem is one fault or doubt about the node file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 when it is about the whole file
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Path    string `json:"path,omitempty"`   // e.g. "interfaces[0].vips[1]"
	Message string `json:"message"`          // what is wrong
	Hint    string `json:"hint,omitempty"`   // what to do next
	// UnspecifiedVIP names the interface whose shared address is 0.0.0.0 or ::, when that is the fault.
	UnspecifiedVIP string `json:"unspecified_vip,omitempty"`
}

// Error gives the problem on one line: "node.yaml:12:7: interfaces[0].name: … (…)".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Excerpt shows the source line of the problem with a caret below the place, or "" when src has no such line.
// Tabs are kept, so that the caret stands right in every terminal.
func (p Problem) Excerpt(src []byte) string {
	lines := strings.Split(string(src), "\n")
	if p.Line < 1 || p.Line > len(lines) {
		return ""
	}
	line := strings.TrimRight(lines[p.Line-1], "\r")
	var pad strings.Builder
	for i, r := range []rune(line) {
		if i >= p.Column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		pad.WriteRune(r)
	}
	return line + "\n" + pad.String() + "^\n"
}

// ErrorList is every fault of a file, in the order of the file.
type ErrorList []Problem

// Error gives one line a fault.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single Problem.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, p := range l {
		errs[i] = p
	}
	return errs
}

// Warnings are doubts that do not keep a file from being used.
type Warnings []Problem
