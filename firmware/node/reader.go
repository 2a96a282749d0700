package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// reader walks the syntax tree. It keeps the place of every value it has read, so that a check made later on plain
// Go values can still point at the file.
type reader struct {
	file     string
	at       yamldoc.Positions
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
	at := r.at.Where(path)
	return Problem{
		File: r.file, Line: at.Line, Column: at.Column, Path: path,
		Message: fmt.Sprintf(format, args...), Hint: hint,
	}
}

// parse turns the text into the top-level section; nil when the text is not one YAML mapping.
func (r *reader) parse(data []byte) *section {
	body, fault := yamldoc.Parse(data)
	if fault != nil {
		r.at[""] = fault.At
		r.fail("", fault.Hint, "%s", fault.Message)
		return nil
	}
	return r.section("", body)
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
	entries, ok := yamldoc.Entries(n)
	if !ok {
		r.mark(path, n)
		r.fail(path, "write it as key: value lines", "want a mapping, got %s", yamldoc.Kind(n))
		return nil
	}
	s := &section{reader: r, path: path, values: make(map[string]ast.Node)}
	for i, e := range entries {
		key := e.Key.GetToken()
		name := key.Value
		if i == 0 {
			if !r.at.Written(path) {
				r.at[path] = yamldoc.PlaceOf(key)
			}
		}
		if _, twice := s.values[name]; twice {
			r.at[s.join(name)] = yamldoc.PlaceOf(key)
			r.fail(s.join(name), "keep one of the two", "the key %q is there twice", name)
			continue
		}
		if !r.at.Written(s.join(name)) {
			r.at[s.join(name)] = yamldoc.PlaceOf(key)
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
	r.at[path] = yamldoc.PlaceOf(n.GetToken())
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
		if near := yamldoc.Nearest(key, s.known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		s.fail(s.join(key), hint, "unknown key %q", key)
	}
}

// scalar is the text of a single value, as written.
func (r *reader) scalar(path string, n ast.Node) (string, bool) {
	if text, ok := yamldoc.Scalar(n); ok {
		return text, true
	}
	hint := ""
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode: // how the library reads [2001:db8::1]
		hint = `a value with colons needs quotes there, e.g. "2001:db8::1"`
	}
	r.fail(path, hint, "want a single value, got %s", yamldoc.Kind(n))
	return "", false
}
