package tap

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

var (
	shared = net.HardwareAddr{0x10, 0, 0, 0, 0x0c, 7}
	ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	host   = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	all    = net.HardwareAddr{255, 255, 255, 255, 255, 255}
	vip4   = netip.MustParseAddr("10.1.0.1")
	vip6   = netip.MustParseAddr("2001:db8::1")
	far4   = netip.MustParseAddr("198.51.100.7")
	far6   = netip.MustParseAddr("2001:db8:9::7")
)

// frame is an Ethernet frame with addresses in the places of its type.
func frame(dst, src net.HardwareAddr, etherType uint16, from, to netip.Addr, icmp6 byte) []byte {
	f := slices.Concat(dst, src, binary.BigEndian.AppendUint16(nil, etherType), make([]byte, 60))
	switch etherType {
	case 0x0800:
		copy(f[26:], from.AsSlice())
		copy(f[30:], to.AsSlice())
	case 0x0806:
		copy(f[28:], from.AsSlice())
		copy(f[38:], to.AsSlice())
	case 0x86dd:
		f[20] = 6
		if icmp6 != 0 {
			f[20], f[54] = 58, icmp6
		}
		copy(f[22:], from.AsSlice())
		copy(f[38:], to.AsSlice())
	}
	return f
}

// takes says which programs take a frame, whichever way it goes and taken for this member: the library's machine does not know the
// kernel's extensions that tell.
func takes(t *testing.T, f []byte, vips ...netip.Addr) (kinds []kind) {
	t.Helper()
	for _, k := range []kind{in, out, neighbour} {
		p := classify(k, shared, vips)
		for i, ins := range p {
			if ext, ok := ins.(bpf.LoadExtension); ok && ext.Num == bpf.ExtType {
				p[i] = bpf.LoadConstant{Val: unix.PACKET_HOST}
			}
		}
		vm, err := bpf.NewVM(p)
		if err != nil {
			t.Fatal(err)
		}
		n, err := vm.Run(f)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

func TestPrograms(t *testing.T) {
	const ip, arp, ip6 = 0x0800, 0x0806, 0x86dd
	for name, c := range map[string]struct {
		frame []byte
		want  []kind
	}{
		"through the cluster":                {frame(shared, host, ip, far4, far4, 0), []kind{in}},
		"through it, IPv6":                   {frame(shared, host, ip6, far6, far6, 0), []kind{in}},
		"to the VIP":                         {frame(shared, host, ip, far4, vip4, 0), []kind{in}},
		"to the VIP, to the wrong MAC":       {frame(ownMAC, host, ip, far4, vip4, 0), []kind{in}},
		"from the VIP by the own MAC":        {frame(host, ownMAC, ip, vip4, far4, 0), []kind{out}},
		"from the shared MAC":                {frame(host, shared, ip, far4, far4, 0), []kind{out}},
		"from the VIP, IPv6":                 {frame(host, ownMAC, ip6, vip6, far6, 0), []kind{out}},
		"to the VIP, IPv6":                   {frame(host, ownMAC, ip6, far6, vip6, 0), []kind{in}},
		"an echo request of IPv6":            {frame(shared, host, ip6, far6, vip6, 128), []kind{in}},
		"a neighbour solicitation":           {frame(shared, host, ip6, far6, vip6, 135), []kind{neighbour}},
		"a router solicitation":              {frame(shared, host, ip6, far6, vip6, 133), []kind{neighbour}},
		"ICMPv6 behind neighbour discovery":  {frame(shared, host, ip6, far6, vip6, 138), []kind{in}},
		"who has the VIP":                    {frame(all, host, arp, far4, vip4, 0), []kind{neighbour}},
		"the VIP is at":                      {frame(all, shared, arp, vip4, vip4, 0), []kind{neighbour}},
		"who has another address":            {frame(all, host, arp, far4, far4, 0), nil},
		"a broadcast from the VIP":           {frame(all, shared, ip, vip4, far4, 0), []kind{neighbour}},
		"a broadcast of others":              {frame(all, host, ip, far4, far4, 0), nil},
		"to this member's own address":       {frame(ownMAC, host, ip, far4, far4, 0), nil},
		"of another protocol":                {frame(ownMAC, host, 0x88cc, far4, far4, 0), nil},
		"of another protocol to the cluster": {frame(shared, host, 0x88cc, far4, far4, 0), []kind{in}},
		"an address in the wrong place":      {frame(ownMAC, host, ip6, netip.AddrFrom16([16]byte{0, 0, 0, 0, 10, 1, 0, 1}), far6, 0), nil},
	} {
		if got := takes(t, c.frame, vip4, vip6); !slices.Equal(got, c.want) {
			t.Errorf("%s: programs %v, want %v", name, got, c.want)
		}
	}
}

// TestManyAddresses: the last of as many as a program can know is found, and the program is one the kernel takes.
func TestManyAddresses(t *testing.T) {
	var list []netip.Addr
	a, b := netip.MustParseAddr("10.2.0.0"), netip.MustParseAddr("2001:db8:2::")
	for range max4 {
		a = a.Next()
		list = append(list, a)
	}
	for range max6 {
		b = b.Next()
		list = append(list, b)
	}
	for name, f := range map[string][]byte{
		"IPv4": frame(ownMAC, host, 0x0800, far4, a, 0), "IPv6": frame(ownMAC, host, 0x86dd, far6, b, 0), "first": frame(ownMAC, host, 0x86dd, far6, list[max4], 0),
	} {
		if got := takes(t, f, list...); !slices.Contains(got, in) {
			t.Errorf("%s: the frame is not counted: %v", name, got)
		}
	}
	if got := takes(t, frame(ownMAC, host, 0x0806, far4, a, 0), list...); !slices.Equal(got, []kind{neighbour}) {
		t.Errorf("ARP: %v", got)
	}
	for _, k := range []kind{in, out, neighbour} {
		raw, err := bpf.Assemble(program(k, shared, append(list, a.Next(), b.Next())))
		if err != nil || len(raw) > 4096 {
			t.Errorf("program %d: %d instructions, %v", k, len(raw), err)
		}
	}
}

// TestWatch: frames of the kernel, on a NIC that has a macvlan with the shared MAC.
func TestWatch(t *testing.T) {
	ns, far := netnslab.New(t), netnslab.New(t)
	ns.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", far.Name)
	ns.Run("ip", "addr", "add", "10.1.0.2/24", "dev", "va")
	ns.Run("ip", "link", "set", "va", "up")
	ns.Run("ip", "link", "add", "link", "va", "name", "va-vip", "address", shared.String(), "type", "macvlan", "mode", "private")
	ns.Run("ip", "addr", "add", "10.1.0.1/32", "dev", "va-vip")
	ns.Run("ip", "link", "set", "va-vip", "up")
	far.Run("ip", "addr", "add", "10.1.0.10/24", "dev", "vb")
	far.Run("ip", "link", "set", "vb", "up")
	far.Run("ip", "neigh", "replace", "10.1.0.1", "lladdr", shared.String(), "dev", "vb", "nud", "permanent")
	ping := func(address string) {
		exec.Command("ip", "netns", "exec", far.Name, "ping", "-c3", "-i0.05", "-W1", address).Run()
	}
	watch := func(do func()) (c Count) {
		done := make(chan struct{})
		var got map[string]Count
		go ns.Do(func() {
			defer close(done)
			var err error
			if got, err = Watch(t.Context(), []Device{{"va", shared, []netip.Addr{vip4}}, {"none", shared, nil}}, time.Second); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(300 * time.Millisecond)
		do()
		<-done
		if got["none"].Err == nil {
			t.Error("a device that is not there is watched")
		}
		return got["va"]
	}
	if c := watch(func() { ping("10.1.0.1") }); c.Err != nil || c.In != 3 || c.Out != 3 {
		t.Errorf("three pings of the VIP: %+v", c)
	}
	if c := watch(func() { ping("10.1.0.2") }); c.Err != nil || c.In != 0 || c.Out != 0 {
		t.Errorf("three pings of another address: %+v", c)
	}
	if c := watch(func() {
		far.Run("ip", "neigh", "del", "10.1.0.1", "dev", "vb")
		ping("10.1.0.1")
	}); c.Neighbour == 0 {
		t.Errorf("ARP for the VIP: %+v", c)
	}
}
