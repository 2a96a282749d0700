package machine

import (
	"strings"
	"testing"
)

func TestCPUModel(t *testing.T) {
	if got := CPUModel("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: another\n"); got != "A CPU @ 2 GHz" {
		t.Errorf("%q", got)
	}
	if got := CPUModel(""); got == "" {
		t.Error("nothing said about a CPU without a model")
	}
}

func TestBusy(t *testing.T) {
	a, err := parseCPUTime("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3")
	if err != nil {
		t.Fatal(err)
	}
	if a != (CPUTime{Total: 1000, Idle: 800}) {
		t.Errorf("%+v", a)
	}
	b := CPUTime{Total: 1200, Idle: 850}
	if got := b.Busy(a); got != 75 {
		t.Errorf("busy %v %%, want 75", got)
	}
	if got := a.Busy(a); got != 0 {
		t.Errorf("busy %v %% in no time", got)
	}
	for _, bad := range []string{"", "intr 1", "cpu 1 2 x 4 5 6"} {
		if _, err := parseCPUTime(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestRequireNamesThePackage(t *testing.T) {
	err := Require(Program{"no-such-program-of-twinkeep", "its-package"})
	if err == nil || !strings.Contains(err.Error(), "apt-get install its-package") {
		t.Errorf("%v", err)
	}
}
