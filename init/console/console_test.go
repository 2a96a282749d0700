package console

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDevices(t *testing.T) {
	there := []string{"/dev/ttyS0", "/dev/ttyS1", "/dev/tty1", "/dev/hvc0"}
	for _, tt := range []struct {
		cmdline, serial string
		want            []string
	}{
		{"", "", []string{"/dev/console"}},
		{"quiet", "ttyS1", []string{"/dev/ttyS1"}},
		{"quiet", "ttyS9", []string{"/dev/console"}},
		{"console=ttyS0", "ttyS1", []string{"/dev/ttyS0"}},
		{"quiet console=tty0 console=ttyS0,115200n8 panic=10", "", []string{"/dev/tty1", "/dev/ttyS0"}},
		{"console=ttyS0 console=ttyS0,9600", "", []string{"/dev/ttyS0"}},
		{"console=ttyS7 console=hvc0", "", []string{"/dev/hvc0"}},
		{"console= console=null console=../sda xconsole=ttyS0", "", []string{"/dev/console"}},
	} {
		got := Devices(tt.cmdline, tt.serial, func(p string) bool { return slices.Contains(there, p) })
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q %q: %s", tt.cmdline, tt.serial, diff)
		}
	}
}
