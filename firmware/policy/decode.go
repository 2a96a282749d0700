package policy

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// field is one key of the model.
type field struct {
	index    int
	key      string
	doc      string
	need     bool
	as       string // name of a scalar; "" when the type is no scalar
	enum     []string
	min, max uint64
	typ      reflect.Type
}

var fieldsOf sync.Map // reflect.Type -> []field

// fields reads the tags of a struct.
func fields(t reflect.Type) []field {
	if known, ok := fieldsOf.Load(t); ok {
		return known.([]field)
	}
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key := sf.Tag.Get("key")
		if key == "" {
			continue
		}
		f := field{index: i, key: key, doc: sf.Tag.Get("doc"), need: sf.Tag.Get("need") != "", as: sf.Tag.Get("as"), typ: sf.Type}
		if words := sf.Tag.Get("enum"); words != "" {
			f.as, f.enum = "enum", strings.Split(words, ",")
		}
		if top := sf.Tag.Get("max"); top != "" {
			f.as = "number"
			f.min, _ = strconv.ParseUint(sf.Tag.Get("min"), 10, 32)
			f.max, _ = strconv.ParseUint(top, 10, 32)
		}
		out = append(out, f)
	}
	fieldsOf.Store(t, out)
	return out
}

// scalarFor finds how a value of type t in field f is written; not ok when it is no single value.
func (f *field) scalarFor(t reflect.Type) (scalar, bool) {
	if f.as != "" && t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
		return scalars[f.as], true
	}
	s, ok := scalars[t.String()]
	return s, ok
}

// group is implemented by the named lists.
type group interface {
	add(name string) (items reflect.Value)
}

// add appends a group and gives the place of its items.
func (g *Groups[T]) add(name string) reflect.Value {
	*g = append(*g, Group[T]{Name: name})
	return reflect.ValueOf(&(*g)[len(*g)-1].Items).Elem()
}

// decoder walks the syntax tree. It keeps the place of every value it has read, so that a check made later on plain
// values can still point at the document.
type decoder struct {
	positions
	errors   node.ErrorList
	warnings node.Warnings
}

func (d *decoder) fail(path, hint, format string, args ...any) {
	d.errors = append(d.errors, d.problem(path, hint, format, args...))
}

func (d *decoder) warn(path, hint, format string, args ...any) {
	d.warnings = append(d.warnings, d.problem(path, hint, format, args...))
}

func (p *positions) problem(path, hint, format string, args ...any) node.Problem {
	at := p.at.Where(path)
	return node.Problem{File: p.file, Line: at.Line, Column: at.Column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// mark remembers the place of a value; that of its key stays when the value has none of its own.
func (d *decoder) mark(path string, n ast.Node) {
	switch n.(type) {
	case nil, *ast.MappingNode, *ast.MappingValueNode, *ast.NullNode:
		return // these begin at a colon or nowhere; the key says it better
	}
	d.at[path] = yamldoc.PlaceOf(n.GetToken())
}

// setDefaults fills in the defaults of v and of the structs inside it.
func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(defaulted); ok {
		d.defaults()
	}
	for _, f := range fields(v.Type()) {
		if inner := v.Field(f.index); inner.Kind() == reflect.Struct {
			if _, is := f.scalarFor(f.typ); !is {
				setDefaults(inner)
			}
		}
	}
}

func (d *decoder) value(path string, n ast.Node, v reflect.Value, f *field) {
	if s, ok := f.scalarFor(v.Type()); ok {
		d.scalar(path, n, v, f, s)
		return
	}
	if g, ok := v.Addr().Interface().(group); ok {
		d.mapping(path, n, func(path, key string, e *ast.MappingValueNode) {
			if _, err := parseName(key); err != nil {
				d.report(path, err)
			}
			d.value(path, e.Value, g.add(key), &field{})
		})
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem(), f)
	case reflect.Slice:
		d.list(path, n, v, f)
	case reflect.Map:
		d.byMember(path, n, v, f)
	case reflect.Struct:
		setDefaults(v)
		d.section(path, n, v)
	default:
		panic("policy: the model has a " + v.Type().String()) // a mistake in model.go, found by every test
	}
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value, f *field, s scalar) {
	text, ok := yamldoc.Scalar(n)
	if !ok {
		hint := ""
		if _, mapping := yamldoc.Entries(n); mapping { // how the library reads [2001:db8::1]
			hint = `a value with colons needs quotes there, e.g. "2001:db8::1"`
		}
		d.fail(path, hint, "want a single value, got %s", yamldoc.Kind(n))
		return
	}
	value, err := s.parse(f, text)
	if err != nil {
		d.report(path, err)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	v.Set(reflect.ValueOf(value))
}

func (d *decoder) report(path string, err error) {
	hint := ""
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		hint = h.Hint()
	}
	d.fail(path, hint, "%s", err)
}

// list reads a sequence. A bad entry stays in it as a zero value, so that the indices are those of the document.
func (d *decoder) list(path string, n ast.Node, v reflect.Value, f *field) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(path, "write it as [a, b] or as lines that begin with -", "want a list, got %s", yamldoc.Kind(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, entry := range seq.Values {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.mark(at, entry)
		d.value(at, entry, v.Index(i), f)
	}
}

// mapping walks the entries of a mapping and refuses a key that is there twice.
func (d *decoder) mapping(path string, n ast.Node, do func(path, key string, e *ast.MappingValueNode)) bool {
	entries, ok := yamldoc.Entries(n)
	if !ok {
		d.mark(path, n)
		d.fail(path, "write it as key: value lines", "want a mapping, got %s", yamldoc.Kind(n))
		return false
	}
	seen := make(map[string]bool, len(entries))
	for i, e := range entries {
		token := e.Key.GetToken()
		key, at := token.Value, path+"."+token.Value
		if path == "" {
			at = key
		}
		if i == 0 && !d.at.Written(path) {
			d.at[path] = yamldoc.PlaceOf(token)
		}
		if seen[key] {
			d.errors = append(d.errors, node.Problem{
				File: d.file, Line: token.Position.Line, Column: token.Position.Column, Path: at,
				Message: fmt.Sprintf("the key %q is there twice", key), Hint: "keep one of the two",
			})
			continue
		}
		seen[key] = true
		if !d.at.Written(at) {
			d.at[at] = yamldoc.PlaceOf(token)
		}
		do(at, key, e)
	}
	return true
}

func (d *decoder) byMember(path string, n ast.Node, v reflect.Value, f *field) {
	v.Set(reflect.MakeMap(v.Type()))
	element := *f
	d.mapping(path, n, func(at, key string, e *ast.MappingValueNode) {
		id, err := strconv.ParseUint(key, 10, 8)
		if err != nil || id < 1 || id > 8 {
			d.fail(at, "write it as {1: …, 2: …}", "%q is not a member ID from 1 to 8", key)
			return
		}
		d.mark(at, e.Value)
		into := reflect.New(v.Type().Elem()).Elem()
		d.scalar(at, e.Value, into, &element, scalars[f.as])
		v.SetMapIndex(reflect.ValueOf(uint8(id)), into)
	})
}

func (d *decoder) section(path string, n ast.Node, v reflect.Value) {
	model := fields(v.Type())
	have := make(map[string]bool, len(model))
	if !d.mapping(path, n, func(at, key string, e *ast.MappingValueNode) {
		i := slices.IndexFunc(model, func(f field) bool { return f.key == key })
		if i < 0 {
			d.unknown(at, key, model)
			return
		}
		have[key] = true
		d.mark(at, e.Value)
		d.value(at, e.Value, v.Field(model[i].index), &model[i])
	}) {
		return
	}
	for _, f := range model {
		if f.need && !have[f.key] {
			d.fail(path, "add "+f.key+": …", "%q is missing", f.key)
		}
	}
}

func (d *decoder) unknown(path, key string, model []field) {
	var known []string
	for _, f := range model {
		known = append(known, f.key)
	}
	hint := "known here: " + strings.Join(known, ", ")
	if near := yamldoc.Nearest(key, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	d.fail(path, hint, "unknown key %q", key)
}
