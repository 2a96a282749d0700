package kernel

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/board"
)

func TestParseFragment(t *testing.T) {
	got, err := ParseFragment([]byte("# about\n\nCONFIG_A=y\n CONFIG_B=n \nCONFIG_NR=64\nCONFIG_T=\"two words\"\nCONFIG_X=0x1f\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Option{{"CONFIG_A", "y"}, {"CONFIG_B", "n"}, {"CONFIG_NR", "64"}, {"CONFIG_T", `"two words"`}, {"CONFIG_X", "0x1f"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"CONFIG_A=m\n":                     "line 1: want CONFIG_NAME",
		"\nCONFIG_A\n":                     "line 2: want",
		"A=y\n":                            "line 1: want",
		"CONFIG_A=yes\n":                   "line 1: want",
		"CONFIG_A=\"x\n":                   "line 1: want",
		"CONFIG_A=y\n# x\nCONFIG_A=n\n":    "line 3: CONFIG_A is already on line 1",
		"# CONFIG_A is not set\nCONFIG_=y": "line 2: want",
	} {
		if _, err := ParseFragment([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

func TestLost(t *testing.T) {
	config := []byte("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\nCONFIG_N=8\nCONFIG_T=\"x=y\"\nCONFIG_M=m\n")
	asked := []Option{
		{"CONFIG_A", "y"}, {"CONFIG_B", "n"}, {"CONFIG_C", "n"}, {"CONFIG_GONE", "n"}, {"CONFIG_N", "8"}, {"CONFIG_T", `"x=y"`},
		{"CONFIG_B", "y"}, {"CONFIG_NO_SUCH", "y"}, {"CONFIG_A", "n"}, {"CONFIG_N", "64"}, {"CONFIG_M", "y"},
	}
	want := []string{"CONFIG_B=y (is n)", "CONFIG_NO_SUCH=y (is n)", "CONFIG_A=n (is y)", "CONFIG_N=64 (is 8)", "CONFIG_M=y (is m)"}
	if diff := cmp.Diff(want, Lost(config, asked)); diff != "" {
		t.Error(diff)
	}
}

// TestFragment looks at what is in the tree; make check-kernel asks Kconfig.
func TestFragment(t *testing.T) {
	text, err := os.ReadFile("../../../buildroot/kernel.config")
	if err != nil {
		t.Fatal(err)
	}
	options, err := ParseFragment(text)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]string)
	for _, o := range options {
		have[o.Name] = o.Value
	}
	for name, why := range map[string]string{
		"CONFIG_HZ_1000": "heartbeats", "CONFIG_PREEMPT": "heartbeats",
		"CONFIG_NETFILTER_EGRESS": "the gate", "CONFIG_NETFILTER_INGRESS": "the gate", "CONFIG_NF_TABLES_NETDEV": "the gate",
		"CONFIG_NF_CONNTRACK_EVENTS": "state sync", "CONFIG_NFT_FLOW_OFFLOAD": "flow table",
		"CONFIG_EFI_HANDOVER_PROTOCOL": "systemd's stub", "CONFIG_EFI_VARS_PSTORE": "crash logs",
		"CONFIG_NET_NS": "sshd's front", "CONFIG_UTS_NS": "sshd's front",
		"CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT": "secure boot", "CONFIG_RD_ZSTD": "initramfs", "CONFIG_PVH": "the lab",
	} {
		if have[name] != "y" {
			t.Errorf("%s=%s, want y: %s needs it", name, have[name], why)
		}
	}
	if have["CONFIG_MODULES"] != "n" {
		t.Error("CONFIG_MODULES is not off")
	}
	if (have["CONFIG_SYSVIPC"] == "y" || have["CONFIG_POSIX_MQUEUE"] == "y") && have["CONFIG_IPC_NS"] != "y" {
		t.Error("the kernel has IPC but no CONFIG_IPC_NS: sshd's front needs its own")
	}
	boards, err := board.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boards {
		for _, name := range b.Kernel {
			if b.Arch == "x86_64" && have[name] != "y" {
				t.Errorf("%s=%s, want y: board %s needs it", name, have[name], b.Name)
			}
		}
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add([]byte("CONFIG_A=y\n# x\nCONFIG_B=\"c\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		options, err := ParseFragment(text)
		if err != nil {
			return
		}
		var config strings.Builder
		for _, o := range options {
			config.WriteString(o.String() + "\n")
		}
		if lost := Lost([]byte(config.String()), options); len(lost) > 0 {
			t.Errorf("a configuration of just the options loses %v", lost)
		}
	})
}
