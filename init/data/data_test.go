package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	ext4 := make([]byte, HeadSize)
	binary.LittleEndian.PutUint16(ext4[sMagic:], magic)
	bad := append([]byte(nil), ext4...)
	bad[sState] = errorFS
	xfs := make([]byte, HeadSize)
	copy(xfs, "XFSB")
	making := append([]byte(nil), ext4...)
	copy(making, unfinished)
	for want, head := range map[Condition][]byte{Blank: make([]byte, HeadSize), Clean: ext4, Suspect: bad, Foreign: xfs, Unfinished: making} {
		if got := Inspect(head); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if Inspect(nil) != Foreign {
		t.Error("nothing readable is taken for a blank partition")
	}
}

type edge struct {
	mountAfter string // mounts work once this was done
	check      error
	writable   error
	done       []string
}

func (e *edge) Create() error        { e.done = append(e.done, "create"); return nil }
func (e *edge) Check() error         { e.done = append(e.done, "check"); return e.check }
func (e *edge) Writable() error      { return e.writable }
func (e *edge) MountReadOnly() error { e.done = append(e.done, "read"); return nil }
func (e *edge) Mount() error {
	e.done = append(e.done, "mount")
	if strings.Contains(strings.Join(e.done, " "), e.mountAfter) {
		return nil
	}
	return errors.New("bad superblock")
}

func TestBring(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Condition
		edge edge
		done string
		want Outcome
	}{
		{"first boot", Blank, edge{mountAfter: "create"}, "create mount", Outcome{Created: true}},
		{"first boot, again", Unfinished, edge{mountAfter: "create"}, "create mount", Outcome{Created: true}},
		{"every boot", Clean, edge{}, "mount", Outcome{}},
		{"errors seen", Suspect, edge{mountAfter: "check"}, "check mount", Outcome{Repaired: true}},
		{"does not mount", Clean, edge{mountAfter: "check"}, "mount check mount", Outcome{Repaired: true}},
		{"superblock gone", Foreign, edge{mountAfter: "check"}, "check mount", Outcome{Repaired: true}},
		{"write-protected", Clean, edge{mountAfter: "never", writable: errors.New("read-only")}, "mount read", Outcome{ReadOnly: true}},
		{"damaged and write-protected", Suspect, edge{writable: errors.New("I/O error")}, "read", Outcome{ReadOnly: true}},
		{"beyond repair", Clean, edge{mountAfter: "create", check: errors.New("exit status 8")}, "mount check create mount", Outcome{Created: true, Lost: true}},
		{"repair did not help", Foreign, edge{mountAfter: "create"}, "check mount create mount", Outcome{Created: true, Lost: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said []string
			o, err := Bring(tt.c, &tt.edge, func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) })
			if err != nil || o != tt.want || strings.Join(tt.edge.done, " ") != tt.done {
				t.Errorf("%+v, %v, done %v", o, err, tt.edge.done)
			}
			if lost := strings.Contains(strings.Join(said, "\n"), "is lost"); lost != tt.want.Lost {
				t.Errorf("said %q, lost %t", said, tt.want.Lost)
			}
		})
	}
	never := &edge{mountAfter: "never"}
	if _, err := Bring(Blank, never, func(string, ...any) {}); err == nil {
		t.Error("a partition that cannot be mounted gives no error")
	}
}

// memo is a Keeper that remembers.
type memo struct {
	done []string
	no   error // to sealing
}

func (m *memo) Seal(recovery string) error {
	m.done = append(m.done, "seal "+recovery)
	return m.no
}

func (m *memo) Write(path string, content []byte) error {
	m.done = append(m.done, path+" "+string(content))
	return nil
}

// What a drive brings is kept in an order in which no power cut leaves the box open.
func TestKeep(t *testing.T) {
	files := func(names ...string) map[string][]byte {
		out := make(map[string][]byte)
		for _, n := range names {
			out[n] = []byte(n[:1])
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		no    error
		want  string
	}{
		{"plain", files("node.yaml"), nil, "/etc/node.yaml n"},
		{"with a password", files("node.yaml", "admin"), nil, "/etc/admin a, /etc/node.yaml n"},
		{"to be sealed", files("node.yaml", "admin", "recovery"), nil, "seal r, /etc/admin a, /etc/node.yaml n"},
		{"cannot be sealed", files("node.yaml", "admin", "recovery"), errors.New("no TPM"), "seal r"},
	} {
		m := &memo{no: tt.no}
		err := keep(tt.files, "/etc", m)
		if got := strings.Join(m.done, ", "); got != tt.want || !errors.Is(err, tt.no) {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
}
