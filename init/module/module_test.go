package module

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var sample = Index{
	{Name: "virtio", Kind: Demand, File: "virtio.ko"},
	{Name: "virtio_pci", Kind: Hardware, File: "virtio_pci.ko", Needs: []string{"virtio"}, Aliases: []string{"pci:v00001AF4d*sv*sd*bc*sc*i*"}},
	{Name: "virtio_net", Kind: Hardware, File: "virtio_net.ko", Needs: []string{"virtio"}, Aliases: []string{"virtio:d00000001v*"}},
	{Name: "ahci", Kind: Late, File: "ahci.ko", Aliases: []string{"pci:v*d*sv*sd*bc01sc06i01*"}},
	{Name: "crc32c_generic", Kind: Demand, File: "crc32c_generic.ko", Aliases: []string{"crypto_crc32c"}},
	{Name: "nf_tables", Kind: Boot, File: "nf_tables.ko", Needs: []string{"crc32c_generic"}},
	{Name: "i6300esb", Kind: Builtin, File: "-"},
	{Name: "sdhci_acpi", Kind: Late, File: "sdhci_acpi.ko", Aliases: []string{"acpi*:80860F14:*"}},
}

func TestIndexRoundTrip(t *testing.T) {
	var b strings.Builder
	dashed := append(Index(nil), sample...)
	dashed[4].Aliases = []string{"crypto-crc32c", "crypto-crc32c"}
	if _, err := dashed.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadIndex(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadIndexRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"module a boot a.ko":                         "line 1",
		"\nmodule a never a.ko -":                    `line 2: "never" is not a kind`,
		"alias a b":                                  "line 1: alias of a",
		"module a boot a.ko -\nmodule a boot a.ko -": "line 2: a is listed twice",
		"module a boot a.ko b":                       "a needs b, which is not in the index",
	} {
		if _, err := ReadIndex(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	for want, names := range map[string][]string{
		"virtio-pci":         {"virtio_pci"},
		"virtio:d00000001v1": {"virtio_net"},
		"virtio:d00000002v1": nil,
		"crypto-crc32c":      {"crc32c_generic"},
		"pci:v00001AF4d00001041sv00001AF4sd00001041bc02sc00i00": {"virtio_pci"},
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01": {"ahci"},
		"crypto": nil,
		"":       nil,
	} {
		if diff := cmp.Diff(names, sample.Find(want)); diff != "" {
			t.Errorf("%s: %s", want, diff)
		}
	}
}

// machine is a sysfs in which loading a driver makes devices appear.
type machine struct {
	t     *testing.T
	sys   string
	order []string
	fail  map[string]bool
}

func (m *machine) device(name, alias string) {
	dir := filepath.Join(m.sys, "bus/x/devices", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) insert(file string) error {
	name := strings.TrimSuffix(filepath.Base(file), ".ko")
	if m.fail[name] {
		return errors.New("exec format error")
	}
	m.order = append(m.order, name)
	if name == "virtio_pci" {
		m.device("virtio0", "virtio:d00000001v00001AF4")
	}
	return nil
}

func open(t *testing.T, m *machine) *Loader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := sample.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path, m.insert)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoader(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail []string
		acpi string // a device on that bus
		do   func(l *Loader, sys string) []error
		want []string
		errs []string
	}{
		{name: "boot loads what it needs first", do: func(l *Loader, _ string) []error { return l.Boot() },
			want: []string{"crc32c_generic", "nf_tables"}},
		{name: "hardware that appears is loaded too", do: func(l *Loader, sys string) []error { return l.Hardware(sys, Hardware) },
			want: []string{"virtio", "virtio_pci", "virtio_net"}},
		{name: "late hardware is another step", do: func(l *Loader, sys string) []error { return l.Hardware(sys, Late) },
			want: []string{"ahci"}},
		{name: "a pattern that leaves the bus open", acpi: "acpi:80860F14:PNP0D40:", do: func(l *Loader, sys string) []error { return l.Hardware(sys, Late) },
			want: []string{"sdhci_acpi", "ahci"}},
		{name: "a device that comes later", do: func(l *Loader, _ string) []error {
			return append(l.Device("virtio:d00000001v00001AF4"), l.Device("usb:v0000p0000")...)
		}, want: []string{"virtio", "virtio_net"}},
		{name: "by alias, once", do: func(l *Loader, _ string) []error { return []error{l.Load("crypto-crc32c"), l.Load("crc32c_generic")} },
			want: []string{"crc32c_generic"}},
		{name: "unknown", do: func(l *Loader, _ string) []error { return []error{l.Load("zfs")} },
			errs: []string{"load module zfs: not in the image; add it to buildroot/modules.txt"}},
		{name: "built in", do: func(l *Loader, _ string) []error { return []error{l.Load("i6300esb")} }},
		{name: "a soft dependency may fail", fail: []string{"crc32c_generic"}, do: func(l *Loader, _ string) []error { return l.Boot() },
			want: []string{"nf_tables"}},
		{name: "one that fails does not stop the others", fail: []string{"virtio_net", "virtio"}, do: func(l *Loader, sys string) []error { return l.Hardware(sys, Hardware) },
			want: []string{"virtio_pci"}, errs: []string{"load module virtio_net: load module virtio: exec format error"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{t: t, sys: t.TempDir(), fail: make(map[string]bool)}
			for _, f := range tt.fail {
				m.fail[f] = true
			}
			m.device("0000:00:03.0", "pci:v00001AF4d00001041sv00001AF4sd00001041bc02sc00i00")
			m.device("0000:00:1f.2", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
			if tt.acpi != "" {
				m.device("80860F14:00", tt.acpi)
			}
			l := open(t, m)
			var errs []string
			for _, err := range tt.do(l, m.sys) {
				if err != nil {
					errs = append(errs, err.Error())
				}
			}
			if diff := cmp.Diff(tt.errs, errs); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.want, m.order); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.want, l.Loaded()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add("module a boot a.ko -\nalias a b*[")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ReadIndex(strings.NewReader(text))
		if err == nil {
			x.Find("b-1")
		}
	})
}
