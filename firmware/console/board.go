package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/board"
)

// boardCommand is about board files; it needs no running member.
func (s *session) boardCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "board", Short: "List the boards this firmware knows, and check board files", Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{
			Use: "check FILE...", Short: "Check board files and name what is wrong in them", Args: cobra.MinimumNArgs(1), RunE: s.boardCheck,
			Long:    "Every fault is named with line, column and what to do. docs/boards.md says how a board is added.",
			Example: "  twinkeep board check board/apu2.yaml",
		},
		&cobra.Command{Use: "list", Short: "List the boards this firmware knows", Args: cobra.NoArgs, RunE: s.boardList},
		&cobra.Command{
			Use: "show NAME", Short: "Show a board file of this firmware", Args: cobra.ExactArgs(1), RunE: s.boardShow,
			ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return boardNames(), cobra.ShellCompDirectiveNoFileComp
			},
		},
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of board files, for editors", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(board.Schema())
				return err
			},
		},
	)
	return cmd
}

func boardNames() []string {
	boards, err := board.All()
	if err != nil {
		return nil
	}
	var names []string
	for _, b := range boards {
		names = append(names, b.Name)
	}
	return names
}

func (s *session) boardCheck(cmd *cobra.Command, args []string) error {
	bad := 0
	for _, file := range args {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		b, err := board.Parse(file, data)
		if err == nil && b.Name+".yaml" != filepath.Base(file) {
			err = &board.FileError{File: file, Problems: []board.Problem{{
				Field: "name", Text: fmt.Sprintf("%q is not the name of the file", b.Name), Hint: "rename one of them", Line: 1, Column: 1,
			}}}
		}
		if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good: %s, %s\n", file, b.Description, boardParts(b))
			continue
		}
		var problems *board.FileError
		if !errors.As(err, &problems) {
			return err
		}
		bad++
		writeBoardProblems(cmd.OutOrStdout(), problems, data)
	}
	if bad > 0 {
		return fmt.Errorf("%s with faults", plural(bad, "board file"))
	}
	return nil
}

// writeBoardProblems shows every fault with its place, its line and what to do.
func writeBoardProblems(w io.Writer, e *board.FileError, data []byte) {
	lines := strings.Split(string(data), "\n")
	for _, p := range e.Problems {
		text := p.Text
		if p.Field != "" {
			text = p.Field + ": " + text
		}
		if p.Line == 0 {
			fmt.Fprintf(w, "%s: %s\n", e.File, text)
			continue
		}
		fmt.Fprintf(w, "%s:%d:%d: %s\n", e.File, p.Line, p.Column, text)
		if p.Line <= len(lines) {
			line := strings.ReplaceAll(lines[p.Line-1], "\t", " ")
			fmt.Fprintf(w, "    %s\n    %s^\n", line, strings.Repeat(" ", min(p.Column-1, len(line))))
		}
		if p.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", p.Hint)
		}
	}
}

// boardParts counts what a board has besides NICs and console.
func boardParts(b *board.Board) string {
	parts := []string{}
	for _, p := range []struct {
		n    int
		what string
	}{{len(b.Ports), "port"}, {len(b.LEDs), "LED"}, {len(b.Buttons), "button"}, {len(b.Sensors), "sensor"}} {
		if p.n > 0 {
			parts = append(parts, plural(p.n, p.what))
		}
	}
	if b.PowerFail != nil {
		parts = append(parts, "power-fail input")
	}
	if b.Buzzer != nil {
		parts = append(parts, "buzzer")
	}
	if len(parts) == 0 {
		return "nothing besides NICs and console"
	}
	return strings.Join(parts, ", ")
}

func (s *session) boardList(cmd *cobra.Command, _ []string) error {
	boards, err := board.All()
	if err != nil {
		return err
	}
	return show(cmd, s, boards, func(w io.Writer, boards []*board.Board) {
		table(w, "NAME|ARCH|DESCRIPTION|PARTS", func(row func(...any)) {
			for _, b := range boards {
				row(b.Name, b.Arch, b.Description, boardParts(b))
			}
		})
	})
}

func (s *session) boardShow(cmd *cobra.Command, args []string) error {
	text, err := board.Source(args[0])
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}
