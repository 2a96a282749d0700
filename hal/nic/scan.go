package nic

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// NIC is one physical Ethernet interface on the PCI tree.
type NIC struct {
	Kernel   string // name in the kernel now, e.g. "eth0"
	MAC      net.HardwareAddr
	Driver   string // e.g. "igb"; for virtio "virtio_net"
	Path     Path   // every bridge from the root, then the interface's place
	Function uint8  // PCI function number, 0..7; Path's last port also accounts for DevPort
	DevPort  uint16 // which port of the function, for cards with several ports in one function
	Vendor   uint16 // PCI IDs of the function
	Device   uint16
}

// Place returns the place that names n.
func (n NIC) Place() Place { return n.Path.Place() }

// Skipped is an interface that belongs to a device and was left out of a scan.
type Skipped struct {
	Kernel string // name in the kernel
	Reason string
	// Fault is set when the interface should have been usable and sysfs did not say all that is needed; clear when
	// it is left out on purpose (USB, wireless, virtual function).
	Fault bool
}

// Scan finds the physical NICs in the sysfs mounted at root ("/sys"), ordered by topology. Interfaces without a device
// (lo, bridge, veth, macvlan, VLAN) are not mentioned at all. Those with a device that is no Ethernet port of this
// machine are in skipped: USB and wireless ones, because they come and go and have no fixed place; SR-IOV virtual
// functions, because they share the port of their physical function (one passed through to a virtual machine is an
// ordinary NIC there). The error is about root itself, never about a single interface.
func Scan(root string) (nics []NIC, skipped []Skipped, err error) {
	fs, err := openSysfs(root)
	if err != nil {
		return nil, nil, fmt.Errorf("scan NICs: %w", err)
	}
	names, err := fs.list("class/net")
	if err != nil {
		return nil, nil, fmt.Errorf("scan NICs: %w; is sysfs mounted?", err)
	}
	for _, name := range names {
		n, err := fs.nic(name)
		var out *leftOut
		switch {
		case err == nil:
			nics = append(nics, n)
		case errors.Is(err, errNoDevice):
		case errors.As(err, &out):
			skipped = append(skipped, Skipped{Kernel: name, Reason: out.reason})
		default:
			skipped = append(skipped, Skipped{Kernel: name, Reason: err.Error(), Fault: true})
		}
	}
	slices.SortFunc(nics, compareNICs)
	return nics, skipped, nil
}

// compareNICs orders by topology. The name decides only between interfaces that sysfs cannot tell apart.
func compareNICs(a, b NIC) int {
	return cmp.Or(a.Path.Compare(b.Path), cmp.Compare(a.Function, b.Function), cmp.Compare(a.DevPort, b.DevPort),
		cmp.Compare(a.Kernel, b.Kernel))
}

var errNoDevice = errors.New("interface has no device")

// leftOut is the error for an interface that is not a NIC by our definition.
type leftOut struct{ reason string }

func (e *leftOut) Error() string { return e.reason }

// Values of the attribute "type", from linux/if_arp.h.
const arphrdEther = "1"

func (s sysfs) nic(name string) (NIC, error) {
	dir := "class/net/" + name
	if _, err := s.resolve(dir); err != nil {
		return NIC{}, err
	}
	if !s.exists(dir + "/device") {
		return NIC{}, errNoDevice // also class/net/bonding_masters, a plain file
	}
	device, err := s.resolve(dir + "/device")
	if err != nil {
		return NIC{}, err
	}
	hops, pci, err := pciPath(device)
	if err != nil {
		return NIC{}, err
	}
	if s.exists(pci + "/physfn") {
		pf, _ := s.target(pci + "/physfn")
		return NIC{}, &leftOut{"SR-IOV virtual function of " + pf}
	}
	if s.exists(dir+"/phy80211") || s.exists(dir+"/wireless") {
		return NIC{}, &leftOut{"wireless"}
	}
	hw, err := s.read(dir + "/type")
	if err != nil {
		return NIC{}, err
	}
	if hw != arphrdEther {
		return NIC{}, &leftOut{fmt.Sprintf("not Ethernet: hardware type %q", hw)}
	}

	n := NIC{Kernel: name, Path: hops, Function: hops.Place().Port}
	if n.MAC, err = s.mac(dir + "/address"); err != nil {
		return NIC{}, err
	}
	if n.DevPort, err = s.number(dir+"/dev_port", 10); err != nil {
		return NIC{}, err
	}
	if n.Vendor, err = s.number(pci+"/vendor", 16); err != nil {
		return NIC{}, err
	}
	if n.Device, err = s.number(pci+"/device", 16); err != nil {
		return NIC{}, err
	}
	if n.Driver, err = s.target(device + "/driver"); err != nil {
		return NIC{}, fmt.Errorf("find driver: %w", err)
	}
	if hops[len(hops)-1].Port, err = port(n.Function, n.DevPort); err != nil {
		return NIC{}, fmt.Errorf("%s/dev_port: %w", dir, err)
	}
	return n, nil
}

// port combines PCI function and dev_port into the port of a place. Most drivers leave dev_port 0 and the function
// tells ports apart. A few put several ports into one function and number them with dev_port: mlx4 in function 0,
// cxgb4 in function 4. Others (bnxt, sfc) have a function for each port and repeat its number in dev_port; adding it
// again would call the second port 2. See systemd issue 12261 for the same trouble.
func port(function uint8, devPort uint16) (uint8, error) {
	switch p := uint16(function) + devPort; {
	case devPort == uint16(function):
		return function, nil
	case devPort > 255 || p > 255:
		return 0, fmt.Errorf("port number %d is out of range", devPort)
	default:
		return uint8(p), nil
	}
}

var virtioDevice = regexp.MustCompile(`^virtio[0-9]+$`)

// pciPath picks the PCI functions out of the resolved path of an interface's device and returns them together with
// the directory of the last, which is the NIC itself.
//
//	devices/pci0000:00/0000:00:05.0/0000:01:00.0/virtio2
//	        root bus   root port    NIC          only for virtio
//
// The device must be that function or a virtio device directly on it. Anything else (USB, wireless modems,
// sub-functions) hangs off a controller that happens to be a PCI function, which says nothing about a port.
func pciPath(device string) (hops Path, pci string, err error) {
	parts := strings.Split(device, "/")
	last := -1
	for i, part := range parts {
		if p, ok := parsePCI(part); ok && p.Port <= 7 {
			hops = append(hops, p)
			last = i
		}
	}
	rest := parts[last+1:]
	switch {
	case len(hops) == 0:
		return nil, "", &leftOut{"not a PCI device: " + path.Base(device)}
	case len(hops) > maxHops:
		return nil, "", fmt.Errorf("%d PCI hops in %s, at most %d are plausible", len(hops), device, maxHops)
	case len(rest) > 1 || len(rest) == 1 && !virtioDevice.MatchString(rest[0]):
		return nil, "", &leftOut{fmt.Sprintf("not a PCI device: %s behind %v", strings.Join(rest, "/"), hops.Place())}
	}
	return hops, path.Join(parts[:last+1]...), nil
}

func (s sysfs) mac(path string) (net.HardwareAddr, error) {
	text, err := s.read(path)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Equal(mac, make([]byte, 6)) {
		return nil, fmt.Errorf("%s: %q is not the MAC of an Ethernet interface", path, text)
	}
	return mac, nil
}

// number reads an unsigned 16-bit attribute; base 16 wants the kernel's prefix 0x.
func (s sysfs) number(path string, base int) (uint16, error) {
	text, err := s.read(path)
	if err != nil {
		return 0, err
	}
	digits, prefixed := strings.CutPrefix(text, "0x")
	n, err := strconv.ParseUint(digits, base, 16)
	if err != nil || prefixed != (base == 16) {
		return 0, fmt.Errorf("%s: %q is not a 16-bit number in base %d", path, text, base)
	}
	return uint16(n), nil
}
