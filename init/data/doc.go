// Package data brings up the data partition: it finds the disk that the machine
// was started from, lets the partition grow to the end of it, creates the file
// system at the first boot, repairs it when it is damaged, and mounts it.
//
// The file system is ext4. It is not made by mkfs but from a template of 16 MiB
// that the image carries (one kilobyte compressed) and that the kernel grows
// while it is mounted; only the checker, e2fsck, is a program.
package data

// Word in the kernel command line says that the image runs from a disk.
const Word = "twinkeep.disk"

// Files of the image.
const (
	Checker  = "/sbin/e2fsck"
	Template = "/usr/share/twinkeep/data.ext4.zst"
)

// Where things are on the running box.
const (
	Mountpoint = "/data"
	// ConfigDir is mounted over /etc/twinkeep.
	ConfigDir  = "config"
	JournalDir = "journal"
	// ResetFile on the data partition asks PID 1 to make the partition anew at the
	// next boot: the factory reset. It is an ordinary file so that a power cut
	// before that boot loses neither the wish nor anything else.
	ResetFile = "factory-reset"
	// StateFile tells other programs which disk was found; see Disk.
	StateFile = "/run/twinkeep/disk.json"
)

// Names of the partitions.
const (
	ESPName  = "twinkeep-esp"
	DataName = "twinkeep-data"
)
