package console

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choice is one thing that can stand at a place of the line.
type choice struct{ word, help string }

// key is called by the line editor for every key: Tab completes, ? explains.
func (c *console) key(line string, pos int, key rune) (string, int, bool) {
	switch key {
	case '\t':
		choices, partial := c.choices(line[:pos])
		add := common(choices, partial)
		if add == "" && len(choices) > 1 {
			c.list(line, choices)
		}
		return line[:pos] + add + line[pos:], pos + len(add), true
	case '?':
		choices, _ := c.choices(line[:pos])
		c.list(line, choices)
		return line, pos, true
	}
	return "", 0, false
}

// choices asks the daemons where a choice is theirs, but not for long.
func (c *console) choices(text string) ([]choice, string) {
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	return choicesAt(ctx, c.tree(), text)
}

// list shows choices above the line that is being typed.
func (c *console) list(line string, choices []choice) {
	var b strings.Builder
	if len(choices) == 0 {
		choices = []choice{{"", "Nothing can follow here; press Enter."}}
	}
	width := 0
	for _, ch := range choices {
		width = max(width, len(ch.word))
	}
	fmt.Fprintln(&b, c.lastPrompt+line)
	for _, ch := range choices {
		fmt.Fprintf(&b, "  %s\n", strings.TrimRight(fmt.Sprintf("%-*s  %s", width, ch.word, ch.help), " "))
	}
	c.term.Write([]byte(b.String()))
}

// choicesAt gives what can stand behind the text, and the part of a word that the text ends with.
func choicesAt(ctx context.Context, root *cobra.Command, text string) (choices []choice, partial string) {
	words := strings.Fields(text)
	if n := len(words); n > 0 && strings.HasSuffix(text, words[n-1]) {
		partial = words[len(words)-1]
		words = words[:len(words)-1]
	}
	cmd := root
	var args []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		if strings.HasPrefix(w, "-") {
			name, _, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if f := flagOf(cmd, name); f != nil && f.NoOptDefVal == "" && !hasValue {
				if i++; i == len(words) {
					return flagValues(cmd, f, partial)
				}
			}
			continue
		}
		if sub := child(cmd, w); sub != nil && len(args) == 0 {
			cmd = sub
			continue
		}
		args = append(args, w)
	}
	if len(args) == 0 && !strings.HasPrefix(partial, "-") {
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				choices = append(choices, choice{sub.Name(), sub.Short})
			}
		}
	}
	if cmd == root && len(args) == 0 && child(root, "help") == nil && !strings.HasPrefix(partial, "-") {
		choices = append(choices, choice{"help", "Show help for a command"})
	}
	if !strings.HasPrefix(partial, "-") && cmd.ValidArgsFunction != nil {
		cmd.SetContext(ctx)
		names, _ := cmd.ValidArgsFunction(cmd, args, partial)
		for _, n := range names {
			choices = append(choices, choice{n, ""})
		}
	}
	if cmd != root || strings.HasPrefix(partial, "-") {
		dash := "--"
		if strings.HasPrefix(partial, "-") && !strings.HasPrefix(partial, "--") {
			dash = "-"
		}
		flags := func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !slices.ContainsFunc(words, func(w string) bool { return strings.TrimLeft(w, "-") == f.Name }) {
				choices = append(choices, choice{dash + f.Name, f.Usage})
			}
		}
		cmd.NonInheritedFlags().VisitAll(flags)
		cmd.InheritedFlags().VisitAll(flags)
	}
	choices = slices.DeleteFunc(choices, func(c choice) bool { return !strings.HasPrefix(c.word, partial) })
	return choices, partial
}

// flagValues gives what can stand behind a flag.
func flagValues(cmd *cobra.Command, f *pflag.Flag, partial string) (choices []choice, _ string) {
	complete, ok := cmd.GetFlagCompletionFunc(f.Name)
	if !ok {
		return []choice{{"<" + either(f.Value.Type(), "value") + ">", f.Usage}}, ""
	}
	words, _ := complete(cmd, nil, partial)
	for _, w := range words {
		if strings.HasPrefix(w, partial) {
			choices = append(choices, choice{w, ""})
		}
	}
	return choices, partial
}

// common is what all choices go on with behind the partial word, with a blank behind it when there is only one.
func common(choices []choice, partial string) string {
	if len(choices) == 0 || strings.HasPrefix(choices[0].word, "<") {
		return ""
	}
	shared := choices[0].word
	for _, c := range choices[1:] {
		for !strings.HasPrefix(c.word, shared) {
			shared = shared[:len(shared)-1]
		}
	}
	if len(choices) == 1 {
		shared += " "
	}
	return shared[len(partial):]
}
