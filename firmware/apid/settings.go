package apid

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// settings are what the node file or the policy say.
type settings struct {
	port      uint16 // 0: off
	hostname  string
	addresses []netip.Addr // private ones
	// vips are addresses that nobody gets in by. A policy's rules say that themselves; a node file's let all of lan in.
	vips map[netip.Addr]bool
}

// changed: the certificate would be another one.
func (s settings) changed(next settings) bool {
	return s.hostname != next.hostname || !slices.Equal(s.addresses, next.addresses)
}

// read gives the settings as they are now; those before when the files say nothing.
func (s settings) read(configDir, runDir string) settings {
	n, in, err := node.LoadRunning(configDir, runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}
	}
	if err != nil { // gatewayd goes on with what it had, and says what is wrong
		return s
	}
	next := settings{port: n.API.Port, hostname: n.Hostname, vips: make(map[netip.Addr]bool)}
	for i := range n.Interfaces {
		for _, p := range n.Interfaces[i].Prefixes() {
			next.addresses = append(next.addresses, p.Addr())
		}
		if in == nil || in.Node == nil {
			for _, a := range n.Interfaces[i].VIPs {
				next.vips[a] = true
			}
		}
	}
	return next
}
