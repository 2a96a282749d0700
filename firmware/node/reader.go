package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// position is a place in the file, both from 1.
type position struct{ line, column int }

// reader walks the syntax tree. It keeps the place of every value it has read, so that a check made later on plain
// Go values can still point at the file.
type reader struct {
	file     string
	at       map[string]position
	errors   ErrorList
	warnings Warnings
}

// fail records a fault of the value at path.
func (r *reader) fail(path, hint, format string, args ...any) {
	r.errors = append(r.errors, r.problem(path, hint, format, args...))
}

// warn records a doubt about the value at path.
func (r *reader) warn(path, hint, format string, args ...any) {
	r.warnings = append(r.warnings, r.problem(path, hint, format, args...))
}

func (r *reader) problem(path, hint, format string, args ...any) Problem {
	at := r.where(path)
	return Problem{
		File: r.file, Line: at.line, Column: at.column, Path: path,
		Message: fmt.Sprintf(format, args...), Hint: hint,
	}
}

// where is the place of path, or of the nearest thing around it when path is not written in the file.
func (r *reader) where(path string) position {
	for {
		if at, ok := r.at[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return position{1, 1}
		}
		path = path[:cut]
	}
}

// parse turns the text into the top-level section; nil when the text is not one YAML mapping.
func (r *reader) parse(data []byte) *section {
	file, err := parseYAML(data)
	if err != nil {
		r.at[""] = position{1, 1}
		message := err.Error()
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			r.at[""] = placeOf(syntax.GetToken())
			message = syntax.GetMessage()
		}
		r.fail("", "check indentation, colons and brackets there and on the line before", "not valid YAML: %s", message)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			r.at[""] = placeOf(doc.Body.GetToken())
			r.fail("", "keep one document in the file", "a second YAML document starts here")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		r.fail("", "begin with: version: 1", "the file is empty")
		return nil
	}
	return r.section("", body)
}

// parseYAML guards the YAML library: a text that trips it up is a bad file, not a reason for gatewayd to die.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	if at, why := excessive(data); why != "" {
		return nil, &yaml.SyntaxError{
			Message: why,
			Token:   &token.Token{Position: &token.Position{Line: at.line, Column: at.column}},
		}
	}
	return parser.ParseBytes(data, 0)
}

// Limits far above what a node file has: it nests five levels deep. Beyond them the library takes time that grows with
// the square of the depth or of the line, and stack without end.
const (
	maxDepth = 32
	maxLine  = 4096 // bytes
)

// excessive finds the place where a line is longer than maxLine, or where brackets, or marks that begin a line, nest
// deeper than maxDepth. Quotes are not looked at: a text with that many brackets is no node file either.
func excessive(data []byte) (at position, why string) {
	open := 0
	for number, line := range bytes.Split(data, []byte("\n")) {
		if len(line) > maxLine {
			return position{number + 1, maxLine}, fmt.Sprintf("the line has more than %d bytes", maxLine)
		}
		line, _, _ = bytes.Cut(line, []byte("#"))
		start, marks := true, 0
		for column, c := range line {
			switch c {
			case '[', '{':
				open++
			case ']', '}':
				open = max(open-1, 0)
			case '-', '?', ':':
				if start {
					marks++
				}
			}
			start = start && strings.IndexByte(" \t-?:", c) >= 0
			if open > maxDepth || marks > maxDepth {
				return position{number + 1, column + 1}, fmt.Sprintf("nested deeper than %d levels", maxDepth)
			}
		}
	}
	return position{}, ""
}

func placeOf(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// section is one mapping of the file.
type section struct {
	*reader
	path   string
	keys   []string
	values map[string]ast.Node
	known  []string // every key asked for: what may stand here
}

// section reads a mapping; nil, with a fault recorded, when n is something else.
func (r *reader) section(path string, n ast.Node) *section {
	var entries []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		r.mark(path, n)
		r.fail(path, "write it as key: value lines", "want a mapping, got %s", kind(n))
		return nil
	}
	s := &section{reader: r, path: path, values: make(map[string]ast.Node)}
	for i, e := range entries {
		key := e.Key.GetToken()
		name := key.Value
		if i == 0 {
			if _, ok := r.at[path]; !ok {
				r.at[path] = placeOf(key)
			}
		}
		if _, twice := s.values[name]; twice {
			r.at[s.join(name)] = placeOf(key)
			r.fail(s.join(name), "keep one of the two", "the key %q is there twice", name)
			continue
		}
		if _, ok := r.at[s.join(name)]; !ok {
			r.at[s.join(name)] = placeOf(key)
		}
		s.keys = append(s.keys, name)
		s.values[name] = e.Value
	}
	return s
}

func (s *section) join(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

// mark remembers the place of a value; that of its key stays when the value has none of its own.
func (r *reader) mark(path string, n ast.Node) {
	if n == nil {
		return
	}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.NullNode:
		return // these begin at a colon or nowhere; the key says it better
	}
	r.at[path] = placeOf(n.GetToken())
}

// take gives the value of a key and notes that the key may stand here.
func (s *section) take(key string) (ast.Node, bool) {
	s.known = append(s.known, key)
	n, ok := s.values[key]
	if ok {
		s.mark(s.join(key), n)
	}
	return n, ok
}

// finish refuses every key nobody asked for.
func (s *section) finish() {
	for _, key := range s.keys {
		if slices.Contains(s.known, key) {
			continue
		}
		hint := "known here: " + strings.Join(s.known, ", ")
		if near := nearest(key, s.known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		s.fail(s.join(key), hint, "unknown key %q", key)
	}
}

// scalar is the text of a single value, as written.
func (r *reader) scalar(path string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		if n.Value != nil {
			return strings.TrimSpace(n.Value.Value), true
		}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	hint := ""
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode: // how the library reads [2001:db8::1]
		hint = `a value with colons needs quotes there, e.g. "2001:db8::1"`
	}
	r.fail(path, hint, "want a single value, got %s", kind(n))
	return "", false
}

// kind names a syntax node for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "a YAML anchor or alias, which a node file does not have"
	case *ast.TagNode:
		return "a YAML tag, which a node file does not have"
	}
	return "a single value"
}

// nearest is the known key that a mistyped one most likely stands for, "" when none is near.
func nearest(key string, known []string) string {
	best, found := 3, ""
	for _, k := range known {
		if d := distance(key, k); d < best && d < len(k) {
			best, found = d, k
		}
	}
	return found
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	if len(a) > 32 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
