// Package usb puts one file onto a removable disk: it finds the disk and its file system, mounts it in a mount namespace of its own (nosuid, nodev,
// noexec), writes the file under another name, syncs it, renames it and unmounts. Nothing on the disk is read but its file system's structures.
package usb
