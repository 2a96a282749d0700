// Package upgrade decides how a box gets a new image and comes back to the old
// one by itself. It is pure: a table of boot entries goes in, the changes to
// make come out. The disk is in firmware/upgrade/esp, the file format in
// firmware/upgrade/bundle, and who is healthy in firmware/upgrade/trial.
//
// # Slots and entries
//
// There are two slots, A and B: two images on the EFI system partition. Which
// one boots is said by boot loader entries (UAPI group, specification 1), small
// files in /loader/entries that systemd-boot sorts: entries without a try left
// come last, then the higher version is first, and the version here is a
// generation that grows with every installation.
//
//	a.conf        slot A is good
//	b+1.conf      slot B is to be tried once; the loader renames it before it starts the image
//	b+0-1.conf    slot B has been tried and nobody has confirmed it: it comes last
//
// So a slot on trial boots once. Whatever happens then, a hang, a panic, a reset
// by the watchdog, a power cut, the next start takes the old slot, because the
// name was changed before the image ran and nothing has to be done for it.
//
// An entry on trial starts its image by way of the [TrialLoader], which arms the
// watchdog that PID 1 would arm later, too late for a kernel that hangs before.
package upgrade

// Files of the image that an upgrade needs.
const (
	// KeysFile holds the public keys that upgrade files are checked against.
	KeysFile = "/etc/twinkeep-upgrade.pub"
	// ReleaseFile says what runs.
	ReleaseFile = "/etc/os-release"
	// SecureBootKeys is the folder on the EFI system partition with the signed
	// updates that enrol the keys; systemd-boot offers them in its menu too.
	SecureBootKeys = "/loader/keys/twinkeep"
)
