package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/capture/dissect"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

// defaultFile is how large a capture in a file becomes, in MB: many boxes have their files in memory.
const defaultFile = 32

// sniffOptions are those of one capture.
type sniffOptions struct {
	api.CaptureQuery
	write string
	size  uint64 // MB
	link  bool
	own   bool
}

func (s *session) sniffCommand() *cobra.Command {
	var o sniffOptions
	cmd := &cobra.Command{
		Use: "sniff INTERFACE [FILTER]", Short: "Show frames as they pass an interface", Args: cobra.MinimumNArgs(1), ValidArgsFunction: s.completeSniff,
		Long: "Sniff shows a line for each frame that comes in or leaves, until Ctrl-C. FILTER is in the syntax of tcpdump. Frames that a shut gate refuses\n" +
			"are seen coming in, never leaving. Over SSH the connection that shows them is left out. With --write they go to a file for Wireshark.\n" +
			"Frames are what users of this gateway send: who captures them is logged.",
		Example: "  sniff lan host 10.1.0.1 and not arp\n  sniff wan 'udp port 999 or udp port 8116' --for 30s\n  sniff lan -c 10 -e arp\n" +
			"  ssh admin@10.1.0.2 sniff lan --write - | wireshark -k -i -",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Interface, o.Filter = args[0], strings.Join(args[1:], " ")
			if s.Source.IsValid() && !o.own {
				o.Except = s.Source
			}
			if o.write != "" {
				return s.writeCapture(cmd, o)
			}
			return s.capture(cmd, o, nil, &frameLines{out: bufio.NewWriter(cmd.OutOrStdout()), json: s.json, link: o.link})
		},
	}
	f := cmd.Flags()
	f.Uint64VarP(&o.Count, "count", "c", 0, "end after so many frames")
	f.DurationVar(&o.For, "for", 0, "end after that time; 24h at most")
	f.StringVar(&o.write, "write", "", "write a capture file (pcapng) instead of lines; - is standard output")
	f.Uint64Var(&o.size, "size", defaultFile, "end before the file is longer than that, in MB")
	f.Uint32Var(&o.Snaplen, "snaplen", 0, "keep so many bytes of a frame; 0 is all")
	f.BoolVar(&o.Promiscuous, "promiscuous", false, "frames to other hosts, too")
	f.BoolVarP(&o.link, "ethernet", "e", false, "show the MACs of all frames")
	f.BoolVar(&o.own, "own", false, "do not leave out the SSH connection that shows them")
	return cmd
}

// sniffWords are those a filter often has.
var sniffWords = []string{"host", "src", "dst", "net", "port", "portrange", "ether", "tcp", "udp", "icmp", "icmp6", "arp", "ip", "ip6", "vrrp", "vlan", "inbound", "outbound", "and", "or", "not"}

func (s *session) completeSniff(cmd *cobra.Command, args []string, partial string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return sniffWords, cobra.ShellCompDirectiveNoFileComp
	}
	return s.completeInterfaces(cmd, args, partial)
}

// frameLine is a frame as JSON.
type frameLine struct {
	Time      time.Time `json:"time"`
	Direction string    `json:"direction"` // in, out
	Length    int       `json:"length"`    // bytes on the wire
	Text      string    `json:"text"`
}

var directions = map[pcapng.Direction]string{pcapng.Inbound: "in", pcapng.Outbound: "out"}

// frames takes those of a capture as they come.
type frames interface {
	frame(*pcapng.Packet)
	flush() error // nothing more has come yet
}

// frameLines shows frames as lines.
type frameLines struct {
	out        *bufio.Writer
	json, link bool
}

func (l *frameLines) frame(k *pcapng.Packet) {
	text := dissect.Line(k.Data, k.Length, dissect.Options{Link: l.link})
	if l.json {
		json.NewEncoder(l.out).Encode(frameLine{k.Time, directions[k.Direction], k.Length, text}) // flush has its error
		return
	}
	fmt.Fprintf(l.out, "%s %-3s %s\n", k.Time.Format("15:04:05.000000"), directions[k.Direction], text)
}

func (l *frameLines) flush() error { return l.out.Flush() }

// unseen are frames that go to a file only.
type unseen struct{}

func (unseen) frame(*pcapng.Packet) {}
func (unseen) flush() error         { return nil }

// writeCapture writes frames to a file, or to standard output.
func (s *session) writeCapture(cmd *cobra.Command, o sniffOptions) error {
	if o.write == "-" {
		if s.interactive {
			return &api.Error{Message: "a capture file is nothing to look at", Hint: "from elsewhere: ssh admin@ADDRESS sniff " + o.Interface + " --write - > FILE"}
		}
		return s.capture(cmd, o, cmd.OutOrStdout(), unseen{})
	}
	if s.Operator != "" {
		return &api.Error{Message: "over the network no file is written on the device", Hint: "ssh admin@ADDRESS sniff " + o.Interface + " --write - > FILE"}
	}
	f, err := os.OpenFile(o.write, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if o.Size, err = room(f, o.size<<20); err != nil {
		return errors.Join(err, os.Remove(o.write))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "At most %s to %s.\n", size(o.Size), o.write)
	if err := s.capture(cmd, o, f, unseen{}); err != nil {
		if info, statErr := f.Stat(); statErr == nil && info.Size() == 0 {
			err = errors.Join(err, os.Remove(o.write))
		}
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// room is how much of want, in bytes, a file may take: it leaves half of what is free.
func room(f *os.File, want uint64) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("room for %s: %w", f.Name(), err)
	}
	const least = 64 << 10
	free := fs.Bavail * uint64(fs.Bsize) / 2
	if min(want, free) < least {
		return 0, &api.Error{Message: fmt.Sprintf("there is no room for %s: %s are free", f.Name(), size(2*free))}
	}
	return min(want, free), nil
}

// capture hands on frames as they come, and says at its end how many there were. What comes is copied to file, if not nil; a file has whole
// blocks only. That the operator ends it is no error.
func (s *session) capture(cmd *cobra.Command, o sniffOptions, file io.Writer, to frames) error {
	body, err := s.client().Capture(cmd.Context(), o.CaptureQuery)
	if err != nil {
		return err
	}
	defer body.Close()
	said := cmd.ErrOrStderr()
	fmt.Fprintf(said, "Listening on %s; Ctrl-C ends.\n", o.Interface)
	var from io.Reader = body
	if file != nil {
		from = io.TeeReader(body, file)
	}
	in := bufio.NewReaderSize(from, 64<<10)
	r := pcapng.NewReader(in)
	var count uint64
	var last pcapng.Statistics
	for err == nil {
		var k *pcapng.Packet
		var stats *pcapng.Statistics
		k, stats, err = r.Next()
		if k != nil {
			count++
			to.frame(k)
		}
		if stats != nil {
			if stats.Dropped > last.Dropped {
				fmt.Fprintf(said, "-- %s lost: there were more than could be taken. A narrower filter helps.\n", plural(stats.Dropped-last.Dropped, "frame"))
			}
			last = *stats
		}
		if in.Buffered() == 0 || err != nil {
			err = errors.Join(err, to.flush())
		}
	}
	if f, ok := file.(*os.File); ok && o.write != "-" {
		err = errors.Join(err, f.Truncate(r.Offset())) // not the half of a block
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && cmd.Context().Err() == nil:
		return &api.Error{Message: "the capture broke off", Hint: "see log --service gatewayd", Cause: err}
	case !errors.Is(err, io.EOF) && !errors.Is(cmd.Context().Err(), context.Canceled):
		return err
	}
	if last.Comment != "" {
		fmt.Fprintf(said, "Ended: %s.\n", last.Comment)
	}
	fmt.Fprintf(said, "%s, %d lost\n", plural(count, "frame"), last.Dropped)
	return nil
}
