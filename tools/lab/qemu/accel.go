package qemu

import (
	"fmt"
	"os"
	"strings"
)

// EnvAccel overrides the choice of the accelerator: "kvm" or "tcg".
const EnvAccel = "TWINKEEP_ACCEL"

// Host is what the choice of the accelerator depends on.
type Host struct {
	Override string // value of EnvAccel
	Flags    bool   // /proc/cpuinfo has vmx or svm
	PVM      bool   // /sys/module/kvm_pvm is there
	OpenErr  error  // of opening /dev/kvm for reading and writing; nil when it opens
}

// Accel is an accelerator with the reason why it was chosen.
type Accel struct {
	Name   string // kvm or tcg
	Reason string
}

func (a Accel) String() string { return a.Name + ": " + a.Reason }

// Args are the arguments of QEMU. Several virtual CPUs boot more slowly than one under TCG.
func (a Accel) Args() []string {
	if a.Name == "kvm" {
		return []string{"-accel", "kvm", "-cpu", "host", "-smp", "1"}
	}
	return []string{"-accel", "tcg", "-cpu", "max", "-smp", "1"}
}

// Choose chooses the accelerator. That /dev/kvm exists proves nothing: with kvm_pvm behind it QEMU starts, and
// an ordinary guest kernel hangs or dies minutes later. `-accel kvm:tcg` does not help, because KVM's own
// start-up succeeds.
func Choose(h Host) (Accel, error) {
	switch h.Override {
	case "kvm", "tcg":
		return Accel{h.Override, EnvAccel + " says so"}, nil
	case "":
	default:
		return Accel{}, fmt.Errorf("%s is %q: want kvm or tcg, or leave it unset", EnvAccel, h.Override)
	}
	switch {
	case !h.Flags:
		return Accel{"tcg", "the CPU flags have neither vmx nor svm"}, nil
	case h.PVM:
		return Accel{"tcg", "/dev/kvm belongs to kvm_pvm, which cannot run ordinary kernels"}, nil
	case h.OpenErr != nil:
		return Accel{"tcg", h.OpenErr.Error()}, nil
	}
	return Accel{"kvm", "vmx or svm is there, no kvm_pvm, and /dev/kvm opens"}, nil
}

// ThisHost reads what Choose needs.
func ThisHost() Host {
	h := Host{Override: os.Getenv(EnvAccel)}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		h.Flags = hasVirtFlag(string(b))
	}
	_, err := os.Stat("/sys/module/kvm_pvm")
	h.PVM = err == nil
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	h.OpenErr = err
	return h
}

func hasVirtFlag(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for f := range strings.FieldsSeq(flags) {
			if f == "vmx" || f == "svm" {
				return true
			}
		}
	}
	return false
}
