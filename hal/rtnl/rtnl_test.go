package rtnl

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	interrupted := fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
	gone := errors.New("no such device")
	for _, tt := range []struct {
		name  string
		says  []error // the last one for ever
		asked int
		err   error
	}{
		{"at once", []error{nil}, 1, nil},
		{"interrupted", []error{interrupted, interrupted, nil}, 3, nil},
		{"another error", []error{gone}, 1, gone},
		{"interrupted, then another error", []error{interrupted, gone}, 2, gone},
		{"always interrupted", []error{interrupted}, tries, netlink.ErrDumpInterrupted},
	} {
		asked := 0
		v, err := Whole(func() (int, error) {
			e := tt.says[min(asked, len(tt.says)-1)]
			asked++
			return asked, e
		})
		if asked != tt.asked || v != asked || !errors.Is(err, tt.err) {
			t.Errorf("%s: asked %d times, %d, %v", tt.name, asked, v, err)
		}
	}
}
