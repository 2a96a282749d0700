// Package qemu starts virtual machines without root. Machine is one of the lab: a kernel and an initramfs. Its NICs are streams
// to ports of package vswitch, behind PCIe root ports at chosen slots, so that every machine built from one
// Config sees the same PCI tree. Console, agent port and QMP are Unix sockets.
//
// Process, Console and the functions that give arguments are for machines of another build: package box, the tests of the case.
//
// No machine outlives the process that started it, however that process ends: see Launcher.
package qemu
