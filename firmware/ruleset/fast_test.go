package ruleset

import (
	"testing"

	"github.com/ti-mo/conntrack"
)

// TestFast: an established connection takes the flowtable, through NAT, and goes on over a reload that keeps it.
func TestFast(t *testing.T) {
	b := newBench(t)
	r := Compile(rulesOf(t, pairFile, "  - {name: G3, sync: true, addresses: {1: 169.254.77.1/30, 2: 169.254.77.2/30}}\n", ""))
	var result Result
	b.gateway.Try(func() (err error) { result, err = r.Install(); return err })
	if !result.Fast {
		t.Skip(result.Reason)
	}
	outside, inside := b.connection(t)
	talk := func() {
		t.Helper()
		for range 20 {
			if err := says(outside, inside, "there"); err != nil {
				t.Fatal(err)
			}
			if err := says(inside, outside, "and back"); err != nil {
				t.Fatal(err)
			}
		}
	}
	offloaded := func() (n int) {
		t.Helper()
		b.gateway.Try(func() error {
			c, err := conntrack.Dial(nil)
			if err != nil {
				return err
			}
			defer c.Close()
			flows, err := c.Dump(nil)
			for _, f := range flows {
				if f.Status.Value&conntrack.StatusOffload != 0 {
					n++
				}
			}
			return err
		})
		return n
	}
	talk()
	if n := offloaded(); n != 1 {
		t.Fatalf("%d connections are in the flowtable, want 1", n)
	}
	b.gateway.Try(func() error {
		again, err := r.Install()
		if !again.Fast {
			t.Errorf("applied again: %+v", again)
		}
		return err
	})
	if n := offloaded(); n != 1 {
		t.Errorf("after a reload %d connections are in the flowtable, want 1", n)
	}
	talk()
}
