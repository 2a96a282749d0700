package board

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

//go:embed *.yaml
var files embed.FS

// maxFile bounds a board file in bytes. A hundred ports take half of it.
const maxFile = 16 << 10

// Parse reads a board file strictly: unknown and repeated keys are errors, and so is all that Check finds. Errors
// begin with the file name, line and column; there is one for each thing that is wrong, joined. Of YAML's extras tags,
// anchors, aliases and merge keys are refused.
func Parse(file string, data []byte) (b *Board, err error) {
	if len(data) > maxFile {
		return nil, whole(file, "%d bytes, at most %d are allowed", len(data), maxFile)
	}
	// go-yaml v1.19.2 panics on some malformed input; PID 1 reads board files and must not.
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, whole(file, "is not YAML that can be read: %v", r)
		}
	}()
	return parse(file, data)
}

func parse(file string, data []byte) (*Board, error) {
	if err := plain(file, data); err != nil {
		return nil, err
	}
	var b Board
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := dec.Decode(&b); errors.Is(err, io.EOF) {
		return nil, whole(file, "is empty")
	} else if err != nil {
		return nil, decodeError(file, err)
	}
	if err := dec.Decode(new(Board)); !errors.Is(err, io.EOF) {
		return nil, whole(file, "has a second YAML document, one is allowed")
	}
	if problems := b.Check(); problems != nil {
		locate(problems, data)
		return nil, &FileError{file, problems}
	}
	return &b, nil
}

// plain refuses the parts of YAML that a board file has no use for: they can make a file mean something else than it
// seems to, and a tag where a list belongs makes go-yaml v1.19.2 panic (testdata/fuzz).
func plain(file string, data []byte) error {
	for _, t := range lexer.Tokenize(string(data)) {
		switch t.Type {
		case token.TagType, token.AnchorType, token.AliasType, token.MergeKeyType:
			return &FileError{file, []Problem{{
				Text: fmt.Sprintf("%q: tags, anchors, aliases and merge keys are not allowed", t.Value),
				Hint: "write the value itself, in quotes if it begins with one of ! & *", Line: t.Position.Line, Column: t.Position.Column,
			}}}
		}
	}
	return nil
}

// whole is a fault of the file and not of one place in it.
func whole(file, format string, args ...any) error {
	return &FileError{file, []Problem{{Text: fmt.Sprintf(format, args...)}}}
}

// decodeError puts a YAML error on one line, with its place.
func decodeError(file string, err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		return whole(file, "%v", err)
	}
	pos := y.GetToken().Position
	p := Problem{Text: y.GetMessage(), Line: pos.Line, Column: pos.Column, Hint: "see docs/boards.md"}
	var unknown *yaml.UnknownFieldError
	var kind *yaml.TypeError
	switch {
	case errors.As(err, &unknown):
		p.Hint = "there is no such key; see docs/boards.md"
		if near := nearest(y.GetToken().Value); near != "" {
			p.Hint = "did you mean " + near + "?"
		}
	case errors.As(err, &kind):
		p.Hint = "the value is of another kind than docs/boards.md says"
	}
	return &FileError{file, []Problem{p}}
}

// locate fills in where the fields with problems are. A field that is absent gets the place of its nearest parent that
// is there, at last the start of the file.
func locate(problems []Problem, data []byte) {
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		return
	}
	for i := range problems {
		p := &problems[i]
		p.Line, p.Column = 1, 1
		for field := p.Field; field != ""; field = parent(field) {
			if n := find(doc, field); n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
				p.Line, p.Column = n.GetToken().Position.Line, n.GetToken().Position.Column
				break
			}
		}
	}
}

func find(doc *ast.File, field string) ast.Node {
	path, err := yaml.PathString("$." + field)
	if err != nil {
		return nil
	}
	n, err := path.FilterFile(doc)
	if err != nil {
		return nil
	}
	return n
}

// parent of "ports[0].name" is "ports[0]", and of that "ports".
func parent(field string) string {
	for i := len(field) - 1; i > 0; i-- {
		if field[i] == '.' || field[i] == '[' {
			return field[:i]
		}
	}
	return ""
}

// Source is the text of a built-in board file.
func Source(name string) ([]byte, error) {
	if _, err := Named(name); err != nil {
		return nil, err
	}
	return files.ReadFile(name + ".yaml")
}

// All returns the boards that are built in, by name. A broken embedded file is a fault of this build and found by its
// test; the error says so at run time too.
var All = sync.OnceValues(func() ([]*Board, error) {
	entries, err := files.ReadDir(".") // sorted by name
	if err != nil {
		return nil, err
	}
	var boards []*Board
	for _, e := range entries {
		data, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		b, err := Parse(e.Name(), data)
		if err != nil {
			return nil, err
		}
		if e.Name() != b.Name+".yaml" {
			return nil, fmt.Errorf("board file %s: name is %q, want the file's own", e.Name(), b.Name)
		}
		boards = append(boards, b)
	}
	return boards, nil
})
