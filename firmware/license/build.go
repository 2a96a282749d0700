package license

import (
	"runtime/debug"
	"time"
)

// BuildDate is the day of the firmware, 2006-01-02. The image builder sets it with -ldflags -X; it must be that of the
// commit, so that images stay reproducible.
var BuildDate string

// Built is the date of this firmware, from BuildDate or from the commit it was built from; zero when neither is known.
func Built() time.Time {
	if d, err := ParseDay(BuildDate); err == nil {
		return d.Start()
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
