package qemu

import (
	"regexp"
	"strings"
)

// between are lines that a machine under test writes on its console by itself, whenever it likes: those of the journal (twinkeep.journal=console), of the
// kernel, of init before it has a journal.
const between = `(?:(?:\[ *\d+\.\d+\]|init:) [^\n]*\n)`

// Echo is the pattern of a line that was typed, as the console shows it: lines of the journal stand between any two of its characters, and long lines are
// wrapped.
func Echo(line string) string {
	var b strings.Builder
	for i, c := range line {
		switch {
		case c == ' ':
			b.WriteString(`(?:\s|` + between + `)+`)
		case i > 0:
			b.WriteString(`\s*` + between + `*` + regexp.QuoteMeta(string(c)))
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

// Prompt is the pattern of the prompt of a box that has one of these names, when no answer of a command follows it: but lines of the journal may.
func Prompt(names ...string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return `(?:` + strings.Join(quoted, "|") + `):/[^\n>]*> ` + between + `*$`
}
