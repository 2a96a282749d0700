package member

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// The extension area of a heartbeat holds fields of one byte type, one byte length, and the value; a type that is not
// known is skipped. Ours tells the settings in which all members must agree, by their node files or by the policy, so that a difference has
// a name:
//
//	type 1, length 27 or more: what follows is for later versions
//	beat, lease, dead, silence   4 × uint32, in units of 100 µs
//	mode                         1 byte: 0 active-up, 1 primary-up
//	flags                        1 byte: 1 safety, 2 lock
//	members                      8 × 1 byte: priority of member 1..8, 0: no such member
//	witnesses                    1 byte: bit 0 is witness 9
//	vips                         uint32: digest of all shared addresses, 0 without any; from length 31 on
const (
	fieldSettings  = 1
	settingsLen    = 31
	settingsLeast  = 27
	timingUnit     = 100 * time.Microsecond
	settingsEvery  = 31 // heartbeats; a prime, so that every interface has its turn
	differsLogWait = 10 * time.Minute
)

// settings are what all members must agree in.
type settings struct {
	timing       [4]uint32
	mode         uint8
	safety, lock bool
	priorities   [cluster.MaxMembers]uint8
	witnesses    uint8
	vips         uint32
}

func settingsOf(c Config) settings {
	s := settings{mode: uint8(c.Mode), safety: c.Safety, lock: c.Lock}
	for i, d := range []time.Duration{c.Timing.Beat, c.Timing.Lease, c.Timing.Dead, c.Timing.Silence} {
		s.timing[i] = uint32(d / timingUnit)
	}
	for _, m := range c.Members {
		if m.ID >= 1 && m.ID <= cluster.MaxMembers {
			s.priorities[m.ID-1] = m.Priority
		}
	}
	for _, w := range c.Witnesses {
		if w.ID > cluster.MaxMembers && w.ID <= cluster.MaxID {
			s.witnesses |= 1 << (w.ID - cluster.MaxMembers - 1)
		}
	}
	s.vips = digestVIPs(c.Interfaces)
	return s
}

// digestVIPs is the CRC-32C of the shared addresses of each interface, in the order of interface numbers and of addresses.
// Who lacks one cannot take it over, which must not come out at the takeover.
func digestVIPs(list []Interface) uint32 {
	var lines []string
	for _, f := range list {
		for _, a := range f.VIPs {
			lines = append(lines, fmt.Sprintf("%d %v\n", f.Number, a))
		}
	}
	if len(lines) == 0 {
		return 0
	}
	slices.Sort(lines)
	return max(1, crc32.Checksum([]byte(strings.Join(lines, "")), crc32.MakeTable(crc32.Castagnoli)))
}

// appendSettings appends the field.
func appendSettings(dst []byte, s settings) []byte {
	dst = append(dst, fieldSettings, settingsLen)
	for _, v := range s.timing {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	flags := byte(0)
	if s.safety {
		flags |= 1
	}
	if s.lock {
		flags |= 2
	}
	dst = append(dst, s.mode, flags)
	dst = append(dst, s.priorities[:]...)
	return binary.BigEndian.AppendUint32(append(dst, s.witnesses), s.vips)
}

// parseSettings finds the field in an extension area.
func parseSettings(ext []byte) (s settings, ok bool) {
	for len(ext) >= 2 && len(ext) >= 2+int(ext[1]) {
		v := ext[2 : 2+int(ext[1])]
		if ext[0] == fieldSettings && len(v) >= settingsLeast {
			for i := range s.timing {
				s.timing[i] = binary.BigEndian.Uint32(v[4*i:])
			}
			s.mode, s.safety, s.lock = v[16], v[17]&1 != 0, v[17]&2 != 0
			copy(s.priorities[:], v[18:])
			s.witnesses = v[26]
			if len(v) >= settingsLen {
				s.vips = binary.BigEndian.Uint32(v[27:])
			}
			return s, true
		}
		ext = ext[2+int(ext[1]):]
	}
	return s, false
}

// differ names what b says other than a.
func (a settings) differ(b settings) string {
	var out []string
	say := func(key string, ours, theirs any) {
		if ours != theirs {
			out = append(out, fmt.Sprintf("%s %v here, %v there", key, ours, theirs))
		}
	}
	for i, key := range []string{"beat", "lease", "dead", "silence"} {
		say("timing."+key, time.Duration(a.timing[i])*timingUnit, time.Duration(b.timing[i])*timingUnit)
	}
	say("mode", cluster.Mode(a.mode).String(), cluster.Mode(b.mode).String())
	say("safety", a.safety, b.safety)
	say("lock", a.lock, b.lock)
	for i := range a.priorities {
		switch ours, theirs := a.priorities[i], b.priorities[i]; {
		case ours == theirs:
		case ours == 0:
			out = append(out, fmt.Sprintf("member %d is listed there only", i+1))
		case theirs == 0:
			out = append(out, fmt.Sprintf("member %d is listed here only", i+1))
		default:
			say(fmt.Sprintf("priority of member %d", i+1), ours, theirs)
		}
	}
	for i := range cluster.MaxID - cluster.MaxMembers {
		if bit := uint8(1) << i; a.witnesses&bit != b.witnesses&bit {
			where := "here"
			if b.witnesses&bit != 0 {
				where = "there"
			}
			out = append(out, fmt.Sprintf("witness %d is listed %s only", cluster.MaxMembers+1+i, where))
		}
	}
	if a.vips != b.vips && a.vips != 0 && b.vips != 0 { // 0: a witness, or a version that does not say
		out = append(out, "the shared addresses are not the same, compare 'vips' of the interfaces")
	}
	return strings.Join(out, "; ")
}

// differences is what the others run by other than we, by ID.
type differences [cluster.MaxID + 1]struct {
	said   string
	logged cluster.Instant
}

func (d *differences) text(id uint8) string {
	if int(id) >= len(d) {
		return ""
	}
	return d[id].said
}

// compare takes in what a heartbeat says of its sender's settings. Its tag was right; an old recording is known by what
// it echoes.
func (m *Member) compare(b *wire.Beat) {
	if len(b.Extension) == 0 || int(b.Member) >= len(m.differs) || b.Member == m.cfg.Self || b.Cluster != m.cfg.ClusterID {
		return
	}
	fresh := false
	for _, h := range b.Heard {
		fresh = fresh || h.Member == m.cfg.Self && h.Nonce == m.nonce
	}
	theirs, ok := parseSettings(b.Extension)
	if !fresh || !ok {
		return
	}
	d, now := &m.differs[b.Member], m.now()
	said := m.ours.differ(theirs)
	if said == d.said && (said == "" || now.Sub(d.logged) < differsLogWait) {
		return
	}
	d.said, d.logged = said, now
	l := cluster.Log{Severity: cluster.Warning, Name: evDiffers}
	if said == "" {
		l.Severity = cluster.Notice
	}
	theirPolicy := cluster.Policy{Revision: b.PolicyRevision, Digest: b.PolicyDigest}
	l.Text = differsText(m.name(b.Member), said, m.machine.View().Policy, theirPolicy)
	m.event(l)
}

// differsText says that a member's settings differ, or with nothing said that they do no more, and what they come from: the
// node files, or the policies that are in force.
func differsText(name, said string, ours, theirs cluster.Policy) string {
	none := cluster.Policy{}
	switch {
	case ours == none && theirs == none && said == "":
		return fmt.Sprintf("the node files of %s and of this member agree again", name)
	case ours == none && theirs == none:
		return fmt.Sprintf("the node file of %s differs: %s; make them equal with 'node edit'", name, said)
	case said == "":
		return fmt.Sprintf("%s and this member run by the same settings again", name)
	case ours == theirs:
		return fmt.Sprintf("%s runs by other settings: %s; both run %s, which one of them has not taken in yet", name, said, ours)
	case ours == none || theirs == none:
		return fmt.Sprintf("%s runs by other settings: %s; %s runs there, %s here; see 'policy status' on both", name, said, theirs, ours)
	}
	return fmt.Sprintf("%s runs by another policy: %s; %s runs there, %s here; see 'policy status' on both", name, said, theirs, ours)
}

// evDiffers is the event of settings that differ.
const evDiffers = "configuration_differs"
