// Package qemu starts the lab's virtual machines: a kernel and an initramfs, no disk, no root. NICs are streams
// to ports of package vswitch, behind PCIe root ports at chosen slots, so that every machine built from one
// Config sees the same PCI tree. Console, agent port and QMP are Unix sockets.
//
// No machine outlives the process that started it, however that process ends: see Launcher.
package qemu
