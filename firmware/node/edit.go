package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// SetPriority gives the file with another priority for a member, comments and layout kept. The file may be a redacted
// one. It fails when it cannot be sure to change nothing else.
func SetPriority(data []byte, member, priority uint8) ([]byte, error) {
	e, err := newEdit(data, member)
	if err != nil {
		return nil, err
	}
	number := fmt.Sprint(priority)
	if v := e.values["priority"]; v != nil {
		err = e.replace(v.GetToken(), number)
	} else if e.mapping != nil && e.mapping.IsFlowStyle {
		err = e.replace(e.values["id"].GetToken(), e.values["id"].GetToken().Value+", priority: "+number)
	} else {
		at := e.keys["id"].Position
		line := strings.Repeat(" ", at.Column-1) + "priority: " + number
		e.lines = slices.Insert(e.lines, at.Line, line)
	}
	if err != nil {
		return nil, err
	}
	return e.done(func(n *Node) {
		for i := range n.Cluster.Members {
			if m := &n.Cluster.Members[i]; m.ID == member {
				m.Priority = priority
			}
		}
	})
}

// RemoveMember gives the file without a member, comments and layout kept, under the same conditions as SetPriority.
func RemoveMember(data []byte, member uint8) ([]byte, error) {
	e, err := newEdit(data, member)
	if err != nil {
		return nil, err
	}
	first, last := e.span()
	switch {
	case !e.list.IsFlowStyle && strings.HasPrefix(strings.TrimSpace(e.lines[first-1]), "-"):
		e.lines = slices.Delete(e.lines, first-1, last)
	case e.list.IsFlowStyle && e.mapping != nil && e.mapping.Start != nil && e.mapping.End != nil:
		err = e.cut(e.mapping.Start.Position, e.mapping.End.Position)
	default:
		err = errByHand
	}
	if err != nil {
		return nil, err
	}
	return e.done(func(n *Node) {
		n.Cluster.Members = slices.DeleteFunc(n.Cluster.Members, func(m Member) bool { return m.ID == member })
	})
}

// errByHand says that a file is laid out in a way that is not edited by program.
var errByHand = errors.New("the list of members is laid out in a way that cannot be changed here: use node edit")

// edit is the text of a file with the place of one member's entry.
type edit struct {
	before  *Node
	lines   []string
	list    *ast.SequenceNode
	mapping *ast.MappingNode // nil when the entry is a single key: value
	entry   ast.Node
	keys    map[string]*token.Token
	values  map[string]ast.Node
}

func newEdit(data []byte, member uint8) (*edit, error) {
	n, err := parseRedacted(data)
	if err != nil {
		return nil, err
	}
	if n.Cluster == nil || !slices.ContainsFunc(n.Cluster.Members, func(m Member) bool { return m.ID == member }) {
		return nil, fmt.Errorf("the node file lists no member %d", member)
	}
	e := &edit{before: n, lines: strings.Split(string(data), "\n")}
	doc, fault := yamldoc.Parse(data)
	if fault != nil {
		return nil, errors.New(fault.Message)
	}
	list, ok := entry(entry(doc, "cluster"), "members").(*ast.SequenceNode)
	if !ok {
		return nil, errByHand
	}
	for _, v := range list.Values {
		id := entry(v, "id")
		if id == nil {
			continue
		}
		if got, bad := number[uint8](1, MaxMembers)(id.GetToken().Value); bad != nil || got != member {
			continue
		}
		e.list, e.entry = list, v
		e.mapping, _ = v.(*ast.MappingNode)
		e.keys, e.values = map[string]*token.Token{}, map[string]ast.Node{}
		for _, kv := range pairs(v) {
			e.keys[kv.Key.GetToken().Value], e.values[kv.Key.GetToken().Value] = kv.Key.GetToken(), kv.Value
		}
		return e, nil
	}
	return nil, errByHand
}

// pairs are the entries of a mapping.
func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// entry is the value of a key of a mapping, nil if there is none.
func entry(n ast.Node, key string) ast.Node {
	for _, kv := range pairs(n) {
		if kv.Key.GetToken().Value == key {
			return kv.Value
		}
	}
	return nil
}

// span is the first and last line of the entry.
func (e *edit) span() (first, last int) {
	for key, k := range e.keys {
		ends := []*token.Token{k}
		if v := e.values[key]; v != nil {
			ends = append(ends, v.GetToken())
		}
		for _, t := range ends {
			if t != nil && t.Position != nil {
				if first == 0 || t.Position.Line < first {
					first = t.Position.Line
				}
				last = max(last, t.Position.Line)
			}
		}
	}
	if e.mapping != nil && e.mapping.IsFlowStyle && e.mapping.Start != nil && e.mapping.End != nil {
		first, last = min(first, e.mapping.Start.Position.Line), max(last, e.mapping.End.Position.Line)
	}
	return first, last
}

// replace puts text in place of a token.
func (e *edit) replace(t *token.Token, text string) error {
	if t == nil || t.Position == nil || t.Position.Line > len(e.lines) {
		return errByHand
	}
	line := []rune(e.lines[t.Position.Line-1])
	from := t.Position.Column - 1
	to := from + len([]rune(t.Value))
	if from < 0 || to > len(line) || string(line[from:to]) != t.Value {
		return errByHand
	}
	e.lines[t.Position.Line-1] = string(line[:from]) + text + string(line[to:])
	return nil
}

// cut takes out what stands between two places of one line, both included, with the comma that parted it from the next or
// the one before.
func (e *edit) cut(from, to *token.Position) error {
	if from.Line != to.Line {
		return errByHand
	}
	line := []rune(e.lines[from.Line-1])
	if from.Column < 1 || to.Column > len(line) || to.Column < from.Column {
		return errByHand
	}
	left, right := string(line[:from.Column-1]), string(line[to.Column:])
	if rest, ok := strings.CutPrefix(strings.TrimLeft(right, " "), ","); ok {
		right = strings.TrimLeft(rest, " ")
	} else {
		left = strings.TrimSuffix(strings.TrimRight(left, " "), ",")
	}
	e.lines[from.Line-1] = left + right
	return nil
}

// done gives the text, if it differs from the old one in what change does and in nothing else.
func (e *edit) done(change func(*Node)) ([]byte, error) {
	data := []byte(strings.Join(e.lines, "\n"))
	after, err := parseRedacted(data)
	if err != nil {
		return nil, err
	}
	change(e.before)
	if !reflect.DeepEqual(e.before, after) {
		return nil, errByHand
	}
	return data, nil
}

// parseRedacted parses a file whose key may be redacted.
func parseRedacted(data []byte) (*Node, error) {
	stand := base64.StdEncoding.EncodeToString([]byte("stands for a key that is hidden."))
	if m := keyLine.FindSubmatchIndex(data); m != nil && string(data[m[4]:m[5]]) == redacted {
		data = slices.Concat(data[:m[4]], []byte(stand), data[m[5]:])
	}
	n, _, err := Parse(FileName, data)
	return n, err
}
