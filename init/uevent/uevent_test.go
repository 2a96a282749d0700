package uevent

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// stick is what Linux 6.1 says when a USB stick is plugged in, the part that usb_storage is found by.
const stick = "add@/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0\x00ACTION=add\x00DEVPATH=/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0\x00" +
	"SUBSYSTEM=usb\x00DEVTYPE=usb_interface\x00PRODUCT=46f4/1/0\x00TYPE=0/0/0\x00INTERFACE=8/6/80\x00MODALIAS=usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00\x00SEQNUM=1234\x00"

func TestParse(t *testing.T) {
	e, err := Parse([]byte(stick))
	want := Event{"add", "/devices/pci0000:00/0000:00:04.0/usb1/1-1/1-1:1.0", "usb", "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"}
	if err != nil || e != want {
		t.Errorf("%+v, %v", e, err)
	}
	for _, bad := range []string{"", "add", "add@/x", "@/x\x00", "libudev\x00\xfe\xed\xca\xfe"} {
		if e, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stick))
	f.Fuzz(func(t *testing.T, message []byte) {
		if e, err := Parse(message); err == nil && e.Action == "" {
			t.Errorf("%q: %+v", message, e)
		}
	})
}

// TestListen: the kernel's own events are heard, others' are not.
func TestListen(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Skip("this system gives no events of the kernel: ", err)
	}
	defer l.Close()
	forged, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(forged)
	name, err := unix.Getsockname(l.fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Sendto(forged, []byte("add@/forged\x00MODALIAS=usb:forged\x00"), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: name.(*unix.SockaddrNetlink).Pid})
	const device = "/sys/class/net/lo/uevent"
	if err := os.WriteFile(device, []byte("change"), 0); err != nil {
		t.Skip("this system's devices cannot be asked for an event: ", err)
	}
	for {
		e, err := l.Next()
		if err != nil || e.Path == "/forged" {
			t.Fatal(e, err)
		}
		if e.Action == "change" && e.Subsystem == "net" && e.Path == "/devices/virtual/net/lo" {
			return
		}
	}
}
