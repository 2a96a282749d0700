package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/twinkeep/twinkeep/tools/bench/stat"
)

// report is what was measured. The keys of the maps are "KERNEL WAY" and
// "KERNEL disk|pieces".
type report struct {
	runs          int
	ways, kernels []string
	boots         map[string][]*trace
	sizes         map[string]string
}

var titles = map[string]string{
	"disk": "From a disk: UEFI firmware (OVMF), systemd-boot, image in slot A; not the disk's first boot",
	"lab":  "As in the lab: QEMU starts the uncompressed kernel (PVH) with an uncompressed initramfs",
}

func (r *report) text(head []string) string {
	var s strings.Builder
	s.WriteString("## From power-on to forwarding\n\n")
	for _, line := range head {
		fmt.Fprintf(&s, "- %s\n", line)
	}
	fmt.Fprintf(&s, "\nSeconds since QEMU was started, %d boots each, the kernels in turn. A lone member; its peer never comes.\n", r.runs)
	for _, w := range r.ways {
		r.stages(&s, w)
		r.moments(&s, w)
	}
	r.sizeTable(&s)
	s.WriteString(notes)
	return s.String()
}

const notes = `
- Kernel entry is the moment at which the kernel's own clock begins; its decompressor counts as firmware and boot loader.
- Emulated without hardware support, everything that computes takes many times as long as on a real box, while waiting takes as
  long as anywhere: the shares are those of this machine, and only what stands side by side can be compared.
- The member listens for 1.4 s before it takes the role (` + "`silence`" + ` of its node file, 0.5 s by default), as beats are slower in the lab.
- Processor: what QEMU used of this machine's processors, medians. It hardly depends on what else the machine does, the other
  columns do. Firmware and kernel are one number there.
- Forwarding: a UDP packet of a client in the LAN came out on the WAN with its source translated; one is sent every 20 ms.
- Journal on the console (` + "`twinkeep.journal=console`" + `), as the changes of state are read there.
`

// stages shows medians of the stages and their shares of the whole.
func (r *report) stages(s *strings.Builder, w string) {
	fmt.Fprintf(s, "\n### %s\n\n| stage |", titles[w])
	for _, k := range r.kernels {
		fmt.Fprintf(s, " %s: median / p95 / max (min) | share | processor |", k)
	}
	s.WriteString("\n|---|" + strings.Repeat("---|---|---|", len(r.kernels)) + "\n")
	for _, m := range moments {
		row := "| " + m.stage + " |"
		any := false
		for _, k := range r.kernels {
			took, share, cpu := r.stage(k+" "+w, m.stage)
			any = any || took.N > 0
			row += fmt.Sprintf(" %s | %.0f %% | %s |", seconds(took), share, cpu)
		}
		if any {
			s.WriteString(row + "\n")
		}
	}
}

// stage summarises one stage in seconds; the share is that of its median in the sum of all medians, and cpu the median
// of the processor time.
func (r *report) stage(key, name string) (took stat.Summary, share float64, cpu string) {
	values := make(map[string][]float64)
	var busy []float64
	for _, t := range r.boots[key] {
		for stage, d := range stages(t.at) {
			values[stage] = append(values[stage], d.Seconds())
		}
		if d, ok := stages(t.cpu)[name]; ok {
			busy = append(busy, d.Seconds())
		}
	}
	cpu = "↓" // part of the next
	if len(busy) > 0 {
		cpu = fmt.Sprintf("%.2f", stat.Of(busy).Median)
	}
	sum := 0.0
	for _, v := range values {
		sum += stat.Of(v).Median
	}
	took = stat.Of(values[name])
	if sum > 0 {
		share = 100 * took.Median / sum
	}
	return took, share, cpu
}

// moments shows when what was reached.
func (r *report) moments(s *strings.Builder, w string) {
	s.WriteString("\n| reached |")
	for _, k := range r.kernels {
		fmt.Fprintf(s, " %s | processor |", k)
	}
	two := len(r.kernels) == 2
	if two {
		fmt.Fprintf(s, " %s : %s | processor |", r.kernels[1], r.kernels[0])
	}
	s.WriteString("\n|---|" + strings.Repeat("---|---|", len(r.kernels)))
	if two {
		s.WriteString("---|---|")
	}
	s.WriteString("\n")
	for _, name := range []string{atPID1, atStandby, atForward} {
		fmt.Fprintf(s, "| %s |", name)
		var all, busy []stat.Summary
		for _, k := range r.kernels {
			var at, cpu []float64
			for _, t := range r.boots[k+" "+w] {
				at, cpu = append(at, t.at[name].Seconds()), append(cpu, t.cpu[name].Seconds())
			}
			all, busy = append(all, stat.Of(at)), append(busy, stat.Of(cpu))
			fmt.Fprintf(s, " %s | %.2f |", seconds(stat.Of(at)), stat.Of(cpu).Median)
		}
		if two {
			fmt.Fprintf(s, " %s | %s |", stat.Ratio(all[1], all[0]), stat.Ratio(busy[1], busy[0]))
		}
		s.WriteString("\n")
	}
}

func seconds(s stat.Summary) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f / %.2f / %.2f (%.2f)", s.Median, s.P95, s.Max, s.Min)
}

var sizeLine = regexp.MustCompile(`^(\S.*?|  \S.*?)\s{2,}([0-9]+\.[0-9]+) MB`)

// parseSizes reads the image builder's sizes.txt.
func parseSizes(text string) (names []string, mb map[string]string) {
	mb = make(map[string]string)
	for line := range strings.Lines(text) {
		if m := sizeLine.FindStringSubmatch(line); m != nil {
			name := strings.TrimSpace(m[1])
			if strings.HasPrefix(m[1], "  ") && name != "vmlinux (PVH)" {
				name += ", before compression"
			}
			names, mb[name] = append(names, name), m[2]
		}
	}
	return names, mb
}

func (r *report) sizeTable(s *strings.Builder) {
	s.WriteString("\n### Sizes of the image on a disk, MB\n\n| part |")
	var names []string
	var columns []map[string]string
	for _, k := range r.kernels {
		fmt.Fprintf(s, " %s |", k)
		n, mb := parseSizes(r.sizes[k+" disk"])
		_, lab := parseSizes(r.sizes[k+" pieces"])
		mb["vmlinux (PVH)"] = lab["vmlinux (PVH)"]
		n = append(n, "vmlinux (PVH)")
		columns = append(columns, mb)
		for _, name := range n {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	s.WriteString("\n|---|" + strings.Repeat("---|", len(r.kernels)) + "\n")
	for _, name := range names {
		fmt.Fprintf(s, "| %s |", name)
		for _, c := range columns {
			fmt.Fprintf(s, " %s |", c[name])
		}
		s.WriteString("\n")
	}
}

// Marks around the section of this bench.
const (
	beginMark = "<!-- bench-boot: begin; written by make bench-boot -->"
	endMark   = "<!-- bench-boot: end -->"
)

// writeSection puts the text between the marks of a page, or behind it.
func writeSection(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	page, err := replaceSection(string(old), text)
	if err != nil {
		return fmt.Errorf("write the result to %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

func replaceSection(page, text string) (string, error) {
	section := beginMark + "\n" + strings.TrimSpace(text) + "\n" + endMark
	begin, end := strings.Index(page, beginMark), strings.Index(page, endMark)
	switch {
	case begin < 0 && end < 0:
		return strings.TrimRight(page, "\n") + "\n\n" + section + "\n", nil
	case begin < 0 || end < begin:
		return "", errors.New("only one of the two marks of the section is there, or in the wrong order: remove both")
	}
	return page[:begin] + section + page[end+len(endMark):], nil
}
