package scenario

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

// Result is what the demo measured.
type Result struct {
	Active, Survivor string // machine names, before the cut
	CutAt            time.Time
	Before           map[string]member.Status
	After            member.Status // of the survivor
	UDP              probe.UDPReport
	TCP              probe.TCPReport
	Server           probe.EchoReport
	Announced        []capture.Announcement // after the cut
	Boots            map[string]Boot
	Twinkeep         int64 // bytes
	Memory           Memory
	Image            []Size
}

// Memory is what a guest says about its memory, in bytes.
type Memory struct{ Total, Available int64 }

// Size is a file of the image.
type Size struct {
	Name  string
	Bytes int64
}

// parseMeminfo reads /proc/meminfo (proc_meminfo(5)); what is missing is 0.
func parseMeminfo(text string) (m Memory) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, err := strconv.ParseInt(f[1], 10, 40)
		if err != nil || kb < 0 {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			m.Total = kb << 10
		case "MemAvailable:":
			m.Available = kb << 10
		}
	}
	return m
}

// imageSizes are the files that a slot holds: kernel and initramfs, compressed also when the lab boots them as they are.
func imageSizes(kernel, initramfs string) (out []Size) {
	for _, p := range []string{filepath.Join(filepath.Dir(kernel), "vmlinuz"), filepath.Join(filepath.Dir(initramfs), "initramfs.cpio.zst")} {
		if fi, err := os.Stat(p); err == nil {
			out = append(out, Size{filepath.Base(p), fi.Size()})
		}
	}
	return out
}

// firstAnnouncement is the time from the cut to the first gratuitous ARP, -1 when there was none.
func (r Result) firstAnnouncement() time.Duration {
	if len(r.Announced) == 0 {
		return -1
	}
	return r.Announced[0].Time.Sub(r.CutAt)
}

// Rows are the lines of the final table.
func (r Result) Rows() [][2]string {
	rows := [][2]string{
		{"what failed", fmt.Sprintf("power of gw-%s, the ACTIVE member (SIGKILL of its QEMU)", r.Active)},
		{"who took over", fmt.Sprintf("gw-%s: %s, term %d (%s)", r.Survivor, r.After.State, r.After.Term, r.After.Failover.Last)},
		{"outage, by UDP probe", fmt.Sprintf("%d ms (one datagram every %d ms, at most %.1f ms late)", r.UDP.Longest.Outage.Milliseconds(), r.UDP.Interval.Milliseconds(), r.UDP.Late.Seconds()*1e3)},
		{"first announcement", announcement(r)},
		{"datagrams lost", fmt.Sprintf("%d of %d, %d of them in the outage", r.UDP.Lost, r.UDP.Sent, r.UDP.Longest.Lost)},
		{"TCP connection", tcpText(r.TCP)},
		{"gratuitous ARPs seen", announced(r.Announced)},
		{"NAT source, before → after", sources(r.UDP.Sources) + " (UDP); " + sources(r.TCP.Sources) + " (TCP)"},
		{"had, resident", mb(int64(r.After.RSS))},
		{"memory of the VM", fmt.Sprintf("%d MiB; %s behind the kernel, %s of it in use, image included", qemu.DefaultMemory, mb(r.Memory.Total), mb(r.Memory.Total-r.Memory.Available))},
		{"/bin/twinkeep", mb(r.Twinkeep)},
		{"image", imageText(r.Image)},
	}
	for _, name := range Gateways {
		b := r.Boots[name]
		rows = append(rows, [2]string{"boot of gw-" + name, fmt.Sprintf("PID 1 at %s, STANDBY at %s of guest time (%s after QEMU's start)",
			seconds(b.PID1), seconds(b.Standby), seconds(b.StandbyWall))})
	}
	t := r.After.Timing
	return append(rows, [2]string{"timing", fmt.Sprintf("beat %v, lease %v, dead %v: scaled for emulated machines, the product's speed is measured in tools/bench",
		time.Duration(t.Beat), time.Duration(t.Lease), time.Duration(t.Dead))})
}

func announcement(r Result) string {
	d := r.firstAnnouncement()
	if d < 0 {
		return "none seen"
	}
	return fmt.Sprintf("%d ms after the cut, on %s", d.Milliseconds(), r.Announced[0].Port)
}

func tcpText(t probe.TCPReport) string {
	return fmt.Sprintf("longest stall %d ms, %d resets, %d reconnects, %d of %d messages answered",
		t.Stall.Milliseconds(), t.Resets, t.Reconnects(), t.Received, t.Sent)
}

func announced(list []capture.Announcement) string {
	counts, order := map[string]int{}, []string{}
	for _, a := range list {
		k := fmt.Sprintf("for %v from %v on %s", a.VIP, a.MAC, a.Port)
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	text := strconv.Itoa(len(list))
	for i, k := range order {
		text += fmt.Sprintf("%s %d %s", map[bool]string{true: ":", false: ","}[i == 0], counts[k], k)
	}
	return text
}

func sources(list []probe.Source) string {
	var words []string
	for _, s := range list {
		words = append(words, s.Addr.String())
	}
	if len(words) == 1 {
		return words[0] + " → the same"
	}
	if len(words) == 0 {
		return "none seen"
	}
	return strings.Join(words, " → ")
}

func imageText(sizes []Size) string {
	var words []string
	var sum int64
	for _, s := range sizes {
		words = append(words, s.Name+" "+mb(s.Bytes))
		sum += s.Bytes
	}
	return strings.Join(words, " + ") + " = " + mb(sum)
}

func mb(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// Print writes the table and the findings.
func (r Result) Print(w io.Writer, findings []capture.Finding) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw)
	for _, row := range r.Rows() {
		fmt.Fprintf(tw, "%s\t%s\n", row[0], row[1])
	}
	fmt.Fprintln(tw)
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		verdict := "ok  "
		if !f.OK {
			verdict = "FAIL"
		}
		if _, err := fmt.Fprintf(w, "%s %s\n     %s\n", verdict, f.Name, f.Evidence); err != nil {
			return err
		}
	}
	return nil
}
