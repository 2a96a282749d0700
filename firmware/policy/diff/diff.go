// Package diff tells what changes from one policy to another, in the words of the policy: entries by their names, lists by
// what comes and goes, and the order of rules where it changes.
package diff

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/policy"
)

// Kind of a change.
type Kind string

// Kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
	Moved   Kind = "moved"
)

// Change is one thing that is different.
type Change struct {
	Kind   Kind   `json:"kind"`
	What   string `json:"what"`             // e.g. "filter rule web"
	Detail string `json:"detail,omitempty"` // what it is, or was before and is now
}

// String gives the change on one line, with a sign in front: + - ~ >.
func (c Change) String() string {
	sign := map[Kind]string{Added: "+", Removed: "-", Changed: "~", Moved: ">"}[c.Kind]
	if c.Detail == "" {
		return sign + " " + c.What
	}
	return sign + " " + c.What + ": " + c.Detail
}

// Of gives the changes from a to b, in the order of the document.
func Of(a, b *policy.Policy) []Change {
	var out []Change
	compare(&out, "", a.Tree(), b.Tree())
	return out
}

// Write prints changes, one a line.
func Write(w io.Writer, list []Change) {
	if len(list) == 0 {
		fmt.Fprintln(w, "The policies say the same.")
	}
	for _, c := range list {
		fmt.Fprintln(w, c)
	}
}

// entries says what one entry of a list is called.
var entries = map[string]string{
	"zones": "zone", "interfaces": "interface", "routes": "route to", "nat": "nat", "filter rules": "filter rule", "helpers": "helper",
	"management": "management", "monitors": "monitor", "cluster members": "member", "objects addresses": "addresses", "objects services": "services",
}

func compare(out *[]Change, where string, a, b policy.Tree) {
	switch {
	case a.List || b.List:
		lists(out, where, a.Kids, b.Kids)
	case len(a.Kids) > 0 && len(b.Kids) > 0:
		for _, key := range keys(a.Kids, b.Kids) {
			was, is := find(a.Kids, key), find(b.Kids, key)
			compare(out, strings.TrimSpace(where+" "+key), was, is)
		}
	case len(a.Kids)+len(b.Kids) > 0: // a whole section comes or goes
		if len(a.Kids) == 0 {
			*out = append(*out, Change{Added, where, inline(b)})
		} else {
			*out = append(*out, Change{Removed, where, inline(a)})
		}
	case a.Text != b.Text:
		*out = append(*out, Change{Changed, where, orNothing(a.Text) + " → " + orNothing(b.Text)})
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// keys of both, in order.
func keys(a, b []policy.Tree) []string {
	var out []string
	seen := map[string]bool{}
	for _, k := range slices.Concat(a, b) {
		if !seen[k.Key] {
			seen[k.Key] = true
			out = append(out, k.Key)
		}
	}
	return out
}

func find(list []policy.Tree, key string) policy.Tree {
	for _, k := range list {
		if k.Key == key {
			return k
		}
	}
	return policy.Tree{Key: key}
}

func lists(out *[]Change, where string, a, b []policy.Tree) {
	name, named := entries[where]
	if !named {
		values(out, where, a, b)
		return
	}
	was, is := index(a), index(b)
	for _, key := range keys(a, b) {
		what := name + " " + key
		i, before := was[key]
		j, after := is[key]
		switch {
		case !before:
			*out = append(*out, Change{Added, what, inline(b[j])})
		case !after:
			*out = append(*out, Change{Removed, what, inline(a[i])})
		default:
			compare(out, what, a[i], b[j])
		}
	}
	if where == "nat" || where == "filter rules" || where == "helpers" {
		moved(out, name, a, b, was, is)
	}
}

func index(list []policy.Tree) map[string]int {
	out := make(map[string]int, len(list))
	for i, k := range list {
		out[k.Key] = i
	}
	return out
}

// moved tells the entries that have another place among those which both have: the fewest that make up the difference.
func moved(out *[]Change, name string, a, b []policy.Tree, was, is map[string]int) {
	var before, after []string
	for _, k := range a {
		if _, ok := is[k.Key]; ok {
			before = append(before, k.Key)
		}
	}
	for _, k := range b {
		if _, ok := was[k.Key]; ok {
			after = append(after, k.Key)
		}
	}
	stay := inOrder(before, after)
	for i, key := range after {
		if stay[key] {
			continue
		}
		place := "to the beginning"
		if i > 0 {
			place = "behind " + after[i-1]
		}
		*out = append(*out, Change{Moved, name + " " + key, place})
	}
}

// inOrder is the longest run of names that stand in the same order in both lists (patience sorting).
func inOrder(before, after []string) map[string]bool {
	at := make(map[string]int, len(before))
	for i, key := range before {
		at[key] = i
	}
	var piles []int // index into after of the top of each pile
	previous := make([]int, len(after))
	for i, key := range after {
		n, _ := slices.BinarySearchFunc(piles, at[key], func(top, want int) int { return at[after[top]] - want })
		previous[i] = -1
		if n > 0 {
			previous[i] = piles[n-1]
		}
		if n == len(piles) {
			piles = append(piles, i)
		} else {
			piles[n] = i
		}
	}
	stay := make(map[string]bool)
	if len(piles) > 0 {
		for i := piles[len(piles)-1]; i >= 0; i = previous[i] {
			stay[after[i]] = true
		}
	}
	return stay
}

// values tells what comes and goes in a list of single values.
func values(out *[]Change, where string, a, b []policy.Tree) {
	has := func(list []policy.Tree, text string) bool {
		return slices.ContainsFunc(list, func(t policy.Tree) bool { return t.Text == text })
	}
	var parts []string
	for _, k := range a {
		if !has(b, k.Text) {
			parts = append(parts, "- "+k.Text)
		}
	}
	for _, k := range b {
		if !has(a, k.Text) {
			parts = append(parts, "+ "+k.Text)
		}
	}
	switch {
	case len(parts) == 0 && !slices.EqualFunc(a, b, func(x, y policy.Tree) bool { return x.Text == y.Text }):
		*out = append(*out, Change{Changed, where, "another order: " + texts(b)})
	case len(parts) == 0:
	case len(a) == 0:
		*out = append(*out, Change{Changed, where, "nothing → " + texts(b)})
	case len(b) == 0:
		*out = append(*out, Change{Changed, where, texts(a) + " → nothing"})
	default:
		*out = append(*out, Change{Changed, where, strings.Join(parts, ", ")})
	}
}

func texts(list []policy.Tree) string {
	out := make([]string, len(list))
	for i, k := range list {
		out[i] = inline(k)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// inline is a section or a list on one line, without what is as it would be by itself.
func inline(t policy.Tree) string {
	switch {
	case t.List:
		return texts(t.Kids)
	case len(t.Kids) == 0:
		return t.Text
	}
	var out []string
	for _, k := range t.Kids {
		if k.Default || k.Key == "name" {
			continue
		}
		text := inline(k)
		if len(k.Kids) > 0 && !k.List {
			text = "{" + text + "}"
		}
		out = append(out, k.Key+" "+text)
	}
	return strings.Join(out, ", ")
}
