package had

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

// loadPeriod is how often the load is looked at.
const loadPeriod = 500 * time.Millisecond

// Saturation is entered at loadHigh and left at loadLow, as shares of the time.
const (
	loadHigh = 0.9
	loadLow  = 0.6
)

// loadEpisode is the least time between two beginnings of saturation: a load that comes and goes must not make the
// cluster slow for good.
const loadEpisode = time.Minute

// watchLoad tells the member when the CPUs are saturated, until ctx ends: it is slower then to take others for dead (at
// most twice the dead time, for at most 10 s). It is the second line; the first is that had runs in real time, and the
// gate needs neither.
func watchLoad(ctx context.Context, m *member.Member) {
	t := time.NewTicker(loadPeriod)
	defer t.Stop()
	var last sample
	var since time.Time // of the newest episode
	high, busy := 0, false
	for {
		now, err := readLoad()
		if err != nil {
			return // neither file is there: nothing to watch
		}
		switch share := now.since(last); {
		case share >= loadHigh:
			high++
		case share <= loadLow:
			high = 0
		}
		if is := busy && high > 0 || high >= 2 && time.Since(since) > loadEpisode; is != busy {
			if busy = is; busy {
				since = time.Now()
			}
			m.Busy(busy)
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sample is the time for which CPUs were short, and the time it is a part of, in the same unit.
type sample struct{ short, all uint64 }

// since is the share of the time since an earlier sample.
func (s sample) since(t sample) float64 {
	if t.all == 0 || s.all <= t.all || s.short < t.short {
		return 0
	}
	return float64(s.short-t.short) / float64(s.all-t.all)
}

var loadStart = time.Now()

// readLoad reads the pressure of the CPUs (PSI: the time in which some task waited for one), or without it the time in
// which no CPU was idle.
func readLoad() (sample, error) {
	if b, err := os.ReadFile("/proc/pressure/cpu"); err == nil {
		if short, err := parsePressure(string(b)); err == nil {
			return sample{short: short, all: uint64(time.Since(loadStart).Microseconds()) + 1}, nil
		}
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return sample{}, err
	}
	return parseStat(string(b))
}

// parsePressure reads total= of the line some, in µs (Documentation/accounting/psi.rst).
func parsePressure(text string) (uint64, error) {
	line, _, _ := strings.Cut(text, "\n")
	_, total, ok := strings.Cut(line, "total=")
	if !ok || !strings.HasPrefix(line, "some ") {
		return 0, fmt.Errorf("no pressure in %q", line)
	}
	return strconv.ParseUint(strings.TrimSpace(total), 10, 64)
}

// parseStat reads the line cpu of /proc/stat: user nice system idle iowait irq softirq steal (proc_stat(5)).
func parseStat(text string) (s sample, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[0] != "cpu" {
		return s, fmt.Errorf("no CPU times in %q", line)
	}
	for i, f := range fields[1:min(len(fields), 9)] {
		v, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return s, fmt.Errorf("CPU times: %w", err)
		}
		s.all += v
		if i != 3 && i != 4 {
			s.short += v
		}
	}
	return s, nil
}
