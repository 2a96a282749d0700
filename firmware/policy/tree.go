package policy

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Tree is a document as keys and texts, with defaults filled in: what two policies are compared by.
type Tree struct {
	Key  string // of a section; the name of an entry that has one
	Text string // of a single value
	Kids []Tree // of a section or a list
	List bool   // the kids are entries of a list, in order
	// Default tells a value that is as it would be if it were left out.
	Default bool
}

// Tree gives the whole policy.
func (p *Policy) Tree() Tree { return treeOf("", reflect.ValueOf(p).Elem(), &field{}) }

func treeOf(key string, v reflect.Value, f *field) Tree {
	t := Tree{Key: key}
	if _, ok := f.scalarFor(v.Type()); ok {
		t.Text = textOf(v)
		return t
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return t
		}
		return treeOf(key, v.Elem(), f)
	case reflect.Map:
		for id := uint8(1); id <= 8; id++ {
			if a := v.MapIndex(reflect.ValueOf(id)); a.IsValid() {
				t.Kids = append(t.Kids, Tree{Key: strconv.Itoa(int(id)), Text: textOf(a)})
			}
		}
	case reflect.Slice:
		t.List = true
		for i := range v.Len() {
			kid := treeOf("", v.Index(i), f)
			if kid.Text == "" {
				kid.Key = nameOf(v.Index(i))
			}
			t.Kids = append(t.Kids, kid)
		}
	case reflect.Struct:
		if items := v.FieldByName("Items"); items.IsValid() && v.NumField() == 2 { // a named list
			return treeOf(v.Field(0).String(), items, &field{})
		}
		defaults := reflect.New(v.Type()).Elem()
		setDefaults(defaults)
		for _, f := range fields(v.Type()) {
			kid := treeOf(f.key, v.Field(f.index), &f)
			kid.Default = reflect.DeepEqual(v.Field(f.index).Interface(), defaults.Field(f.index).Interface())
			t.Kids = append(t.Kids, kid)
		}
	}
	return t
}

// nameOf is what tells an entry of a list from the others: its name, its ID, or what it is about.
func nameOf(v reflect.Value) string {
	for _, key := range []string{"Name", "ID", "To"} {
		if name := v.FieldByName(key); name.IsValid() {
			return textOf(name)
		}
	}
	return ""
}

func textOf(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if v.IsZero() && v.Kind() == reflect.Struct {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// Line is where a rule stands in the document: filter/NAME, nat/NAME or management/NAME as rules name it; 0 when it is none
// of the policy's own.
func (p *Policy) Line(id string) int {
	list, name, _ := strings.Cut(id, "/")
	path := ""
	switch list {
	case "filter":
		for i := range p.Filter.Rules {
			if p.Filter.Rules[i].Name == name {
				path = fmt.Sprintf("filter.rules[%d]", i)
			}
		}
	case "nat":
		for i := range p.NAT {
			if p.NAT[i].Name == name {
				path = fmt.Sprintf("nat[%d]", i)
			}
		}
	case "management":
		for i := range p.Management {
			if p.Management[i].Name == name {
				path = fmt.Sprintf("management[%d]", i)
			}
		}
	}
	if path == "" || p.source == nil {
		return 0
	}
	return p.source.at.Where(path).Line
}
