package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTrace(t *testing.T) {
	tr := newTrace()
	for _, l := range []struct {
		text string
		seen time.Duration
	}{
		{"[    0.000000] Linux version 6.1.192-twinkeep", 3 * time.Second},
		{"init: PID 1 at 2.50s\r\n", 7500 * time.Millisecond},
		{"init: 32 modules loaded at 4.00s", 9 * time.Second},
		{"init: the disk is new", 9 * time.Second},
		{"init: data partition /dev/vda2 mounted at 4.50s", 10 * time.Second},
		{"init: NICs G1=0000:01:00.0 G2=0000:02:00.0 at 4.75s", 10 * time.Second},
		{"[    5.250] had: notice state_change: INIT -> STANDBY: in sync", 12 * time.Second},
		{"gw-a:/> [    8.000] had: notice state_change: STANDBY -> ACTIVE: nobody else", 12 * time.Second},
		{"[    9.000] had: notice state_change: ACTIVE -> STANDBY: second", 12 * time.Second},
		{"[    9.000] gatewayd: -> ACTIVE: not had", 12 * time.Second},
	} {
		if !tr.line(l.text, l.seen, l.seen/2) {
			t.Errorf("%q: restarted?", l.text)
		}
	}
	if got := tr.missing(true); got != atForward {
		t.Errorf("missing: %q", got)
	}
	tr.at[atForward] = 13100 * time.Millisecond
	if got := tr.missing(true); got != "" {
		t.Errorf("missing: %q", got)
	}
	ms := time.Millisecond
	var got []time.Duration
	by := stages(tr.at)
	for _, m := range moments {
		got = append(got, by[m.stage])
	}
	want := []time.Duration{5000 * ms, 2500 * ms, 1500 * ms, 500 * ms, 250 * ms, 500 * ms, 2750 * ms, 100 * ms}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if cpu := stages(tr.cpu); cpu[stageKernel] != 3750*ms || cpu[moments[2].stage] != 750*ms {
		t.Errorf("processor time %v", cpu)
	}
	if tr.line("init: PID 1 at 2.40s", 30*time.Second, 0) {
		t.Error("a second PID 1 went unnoticed")
	}
}

// Without a disk there is no data partition.
func TestTraceMissing(t *testing.T) {
	tr := newTrace()
	for _, m := range moments {
		if m.name != atData {
			tr.at[m.name] = time.Second
		}
	}
	if got := tr.missing(false); got != "" {
		t.Errorf("lab: %q is missing", got)
	}
	if got := tr.missing(true); got != atData {
		t.Errorf("disk: %q is missing, want the data partition", got)
	}
}

func FuzzTraceLine(f *testing.F) {
	f.Add("init: PID 1 at 2.50s")
	f.Add("[    5.250] had: x -> STANDBY: y")
	f.Fuzz(func(t *testing.T, text string) {
		tr := newTrace()
		tr.line(text, time.Second, 0)
		if len(tr.at) > 2 {
			t.Errorf("one line gave %v", tr.at)
		}
	})
}

func TestParseSizes(t *testing.T) {
	names, mb := parseSizes("kernel (vmlinuz)                 8.19 MB\nin the initramfs, before compression:\n  modules                       14.60 MB\nfor QEMU, without compression:\n" +
		"  vmlinux (PVH)                65.91 MB\nslot (UKI)                     20.50 MB of at most 25.17\n")
	if diff := cmp.Diff([]string{"kernel (vmlinuz)", "modules, before compression", "vmlinux (PVH)", "slot (UKI)"}, names); diff != "" {
		t.Error(diff)
	}
	if mb["slot (UKI)"] != "20.50" || mb["vmlinux (PVH)"] != "65.91" {
		t.Errorf("%v", mb)
	}
}

func TestReplaceSection(t *testing.T) {
	page, err := replaceSection("# Page\n", "one")
	if err != nil {
		t.Fatal(err)
	}
	if page, err = replaceSection(page+"behind\n", "two"); err != nil {
		t.Fatal(err)
	}
	if want := "# Page\n\n" + beginMark + "\ntwo\n" + endMark + "\nbehind\n"; page != want {
		t.Errorf("page %q, want %q", page, want)
	}
	if _, err := replaceSection(endMark+beginMark, "x"); err == nil {
		t.Error("marks in the wrong order went unnoticed")
	}
}
