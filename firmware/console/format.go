package console

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table writes aligned columns. A row is one call of the function it is given.
func table(w io.Writer, header string, rows func(row func(cells ...any))) {
	tableRows(w, strings.ReplaceAll(header, "|", "\t")+"\n", rows)
}

// tableRows is a table whose first line is given, or has none.
func tableRows(w io.Writer, header string, rows func(row func(cells ...any))) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	io.WriteString(tw, header)
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				io.WriteString(tw, "\t")
			}
			text := fmt.Sprint(c)
			if text == "" {
				text = "-"
			}
			io.WriteString(tw, text)
		}
		io.WriteString(tw, "\n")
	})
	tw.Flush()
}

// long is a time as a person says it, the two largest units of it: "12 seconds", "2 hours 5 minutes".
func long(d time.Duration) string {
	d = max(d, 0)
	if d < time.Second {
		return fmt.Sprintf("%d milliseconds", d.Milliseconds())
	}
	units := []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
	for i, u := range units {
		n := int64(d / u.size)
		if n == 0 {
			continue
		}
		text := plural(n, u.name)
		if i+1 < len(units) {
			if m := int64(d % u.size / units[i+1].size); m > 0 {
				text += " " + plural(m, units[i+1].name)
			}
		}
		return text
	}
	return "0 seconds"
}

func plural[T int | int64 | uint64](n T, unit string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// short is a time for a table: "4ms", "12s", "2h5m". Less than nothing means never.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "never"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// size is a number of bytes with a binary unit.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// either gives the first text that is not empty.
func either(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
