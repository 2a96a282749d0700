// Package yamldoc reads a file that is one YAML document, with a guard around the library: whatever the bytes are, the
// outcome is a syntax tree or a fault with its place.
package yamldoc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Position is a place in the file; line and column count from 1.
type Position struct{ Line, Column int }

// Positions has the place of every value and key that is written, by its path: interfaces[0].name.
type Positions map[string]Position

// Where is the place of path, or of the nearest thing around it when path is not written.
func (p Positions) Where(path string) Position {
	for {
		if at, ok := p[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return Position{Line: 1, Column: 1}
		}
		path = path[:cut]
	}
}

// Written reports whether a key stands in the document, good or bad.
func (p Positions) Written(path string) bool {
	_, ok := p[path]
	return ok
}

// Fault is why a text is not one YAML document.
type Fault struct {
	At            Position
	Message, Hint string
}

// Parse gives the root of the only document in data.
func Parse(data []byte) (ast.Node, *Fault) {
	file, err := parse(data)
	if err != nil {
		f := &Fault{At: Position{1, 1}, Message: "not valid YAML: " + err.Error(), Hint: "check indentation, colons and brackets there and on the line before"}
		var syntax yaml.Error
		if errors.As(err, &syntax) {
			f.At = PlaceOf(syntax.GetToken())
			f.Message = "not valid YAML: " + syntax.GetMessage()
		}
		return nil, f
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			return nil, &Fault{At: PlaceOf(doc.Body.GetToken()), Message: "a second YAML document starts here", Hint: "keep one document in the file"}
		}
		body = doc.Body
	}
	if body == nil {
		return nil, &Fault{At: Position{1, 1}, Message: "the file is empty", Hint: "begin with: version: 1"}
	}
	return body, nil
}

// parse guards the YAML library: a text that trips it up is a bad file, not a reason for a daemon to die.
func parse(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	if at, why := excessive(data); why != "" {
		return nil, &yaml.SyntaxError{
			Message: why,
			Token:   &token.Token{Position: &token.Position{Line: at.Line, Column: at.Column}},
		}
	}
	return parser.ParseBytes(data, 0)
}

// Limits far above what a file of ours has: the deepest nests six levels. Beyond them the library takes time that grows
// with the square of the depth or of the line, and stack without end.
const (
	maxDepth = 32
	maxLine  = 4096 // bytes
)

// excessive finds the place where a line is longer than maxLine, or where brackets, or marks that begin a line, nest
// deeper than maxDepth. Quotes are not looked at: a text with that many brackets is no file of ours either.
func excessive(data []byte) (at Position, why string) {
	open := 0
	for number, line := range bytes.Split(data, []byte("\n")) {
		if len(line) > maxLine {
			return Position{number + 1, maxLine}, fmt.Sprintf("the line has more than %d bytes", maxLine)
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
				return Position{number + 1, column + 1}, fmt.Sprintf("nested deeper than %d levels", maxDepth)
			}
		}
	}
	return Position{}, ""
}

// PlaceOf is where a token stands; the beginning of the file when it does not know.
func PlaceOf(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// Entries are the keys and values of a mapping; not ok when n is something else.
func Entries(n ast.Node) (entries []*ast.MappingValueNode, ok bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// Scalar is the text of a single value, as written.
func Scalar(n ast.Node) (string, bool) {
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
	return "", false
}

// Kind names a syntax node for people.
func Kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "a YAML anchor or alias, which this file does not have"
	case *ast.TagNode:
		return "a YAML tag, which this file does not have"
	}
	return "a single value"
}

// Nearest is the known key that a mistyped one most likely stands for, "" when none is near.
func Nearest(key string, known []string) string {
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
