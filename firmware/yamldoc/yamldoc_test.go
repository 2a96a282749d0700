package yamldoc

import (
	"strings"
	"testing"
)

func TestParseFaults(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		at         Position
	}{
		{"", "the file is empty", Position{1, 1}},
		{"a: 1\n---\nb: 2\n", "a second YAML document starts here", Position{3, 2}},
		{"a: 1\nb: [\n", "not valid YAML", Position{2, 4}},
		{strings.Repeat("[", 100000), "more than 4096 bytes", Position{1, 4096}},
		{strings.Repeat("a: [\n", 40), "nested deeper than 32", Position{33, 4}},
	} {
		n, f := Parse([]byte(tt.text))
		if n != nil || f == nil || !strings.Contains(f.Message, tt.want) || f.At != tt.at {
			t.Errorf("%.20q: %v, %+v; want %q at %v", tt.text, n, f, tt.want, tt.at)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: [1, {b: 2}]\n"))
	f.Add([]byte("- - ? a\n: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, fault := Parse(data)
		if (n == nil) == (fault == nil) {
			t.Fatalf("node %v with fault %v", n, fault)
		}
		if fault != nil && (fault.At.Line < 1 || fault.At.Column < 1 || fault.Message == "") {
			t.Fatalf("no place or message: %+v", fault)
		}
	})
}
