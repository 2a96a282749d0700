// Package netconf brings links, addresses, routes and network parameters to the wanted state over netlink. It
// compares first and changes only what differs, so applying twice is applying once.
//
// It removes nothing but its own: addresses and routes are marked in the kernel with the protocol number [Protocol].
// The macvlans with the shared addresses belong to had and are left alone.
package netconf
