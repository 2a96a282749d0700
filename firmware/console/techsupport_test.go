package console

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestTechsupportStick: a stick that is not there, two places at once, and that writing onto one is logged.
func TestTechsupportStick(t *testing.T) {
	f := newFakes(t)
	for line, want := range map[string]string{
		"techsupport --usb=nosuchdisk0": "no removable disk", "techsupport --usb sdb1": "--usb=sdb1", "techsupport /root/x": "techsupport --usb",
	} {
		var logged []string
		opts := Options{Run: f.run, Operator: "admin", Audit: func(text string) { logged = append(logged, text) }}
		err := Command(t.Context(), line, opts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
		if byStick := strings.Contains(line, "--usb"); byStick != slices.ContainsFunc(logged, func(s string) bool { return strings.Contains(s, "techsupport") }) {
			t.Errorf("%s: logged %q", line, logged)
		}
	}
	var out bytes.Buffer
	root := NewCommand(Options{Run: f.run})
	root.SetOut(&out)
	root.SetArgs([]string{"techsupport"})
	if err := root.ExecuteContext(t.Context()); err != nil || !bytes.HasPrefix(out.Bytes(), []byte{0x1f, 0x8b}) {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
}
