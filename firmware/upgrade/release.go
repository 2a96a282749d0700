package upgrade

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Release says what an image is. It is in the form of os-release(5), as the
// file /etc/os-release in the image and as the section .osrel of the EFI
// executable.
type Release struct {
	Board   string // the image was built for, e.g. "generic-x86_64"
	Version string // for people, e.g. "v1.2.0"
	// Revision grows with every release; an older one is not installed unless
	// it is forced. It is the time of the commit in seconds, or what the
	// builder was told.
	Revision uint64
}

const (
	keyBoard    = "TWINKEEP_BOARD"
	keyRevision = "TWINKEEP_REVISION"
	maxRelease  = 16 << 10
)

func (r Release) String() string { return fmt.Sprintf("%s (revision %d)", r.Version, r.Revision) }

// Marshal adds what r says to the lines of an os-release file. There is no
// VERSION_ID in it: systemd-boot would show it, and sort by it.
func (r Release) Marshal(base []byte) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(base)) {
		if !strings.HasPrefix(line, "PRETTY_NAME=") {
			b.WriteString(line)
		}
	}
	fmt.Fprintf(&b, "PRETTY_NAME=\"Twinkeep %s\"\nVERSION=%q\n%s=%s\n%s=%d\n", r.Version, r.Version, keyBoard, r.Board, keyRevision, r.Revision)
	return b.Bytes()
}

// ParseRelease reads what Marshal wrote. Lines it does not know are skipped.
func ParseRelease(text []byte) (Release, error) {
	var r Release
	if len(text) > maxRelease {
		return r, fmt.Errorf("os-release of %d bytes, at most %d are allowed", len(text), maxRelease)
	}
	var revision bool
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		k, v, ok := strings.Cut(strings.TrimRight(sc.Text(), "\x00"), "=")
		if !ok {
			continue
		}
		if u, err := strconv.Unquote(v); err == nil {
			v = u
		}
		switch k {
		case keyBoard:
			r.Board = v
		case "VERSION":
			r.Version = v
		case keyRevision:
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return Release{}, fmt.Errorf("os-release: %s=%s is not a number", k, v)
			}
			r.Revision, revision = n, true
		}
	}
	if r.Board == "" || !revision {
		return Release{}, fmt.Errorf("os-release: no %s or %s: not an image of Twinkeep", keyBoard, keyRevision)
	}
	return r, nil
}
