package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used since it began (proc(5)).
type usage struct {
	cpu           time.Duration
	rss, peak     int64 // bytes
	read, written int64 // bytes through read and write calls
}

// usageOf gives zeroes for what cannot be found out.
func usageOf(pid int) (u usage) {
	if pid == 0 {
		return u
	}
	file := func(name string) string {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		return string(data)
	}
	if _, rest, ok := strings.Cut(file("stat"), ") "); ok {
		if f := strings.Fields(rest); len(f) > 12 { // utime and stime, in ticks of 10 ms
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			u.cpu = time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	u.rss, u.peak = 1024*field(file("status"), "VmRSS:"), 1024*field(file("status"), "VmHWM:")
	u.read, u.written = field(file("io"), "rchar:"), field(file("io"), "wchar:")
	return u
}

func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
