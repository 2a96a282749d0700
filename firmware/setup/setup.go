// Package setup asks for what a device needs at its first start, and makes its node file of the answers. It is pure: who asks,
// and where the file goes, is the console's.
package setup

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// NIC is a network interface of the device.
type NIC struct {
	Name string
	MAC  string
	Link bool // it has a carrier
}

// Answers make a node file.
type Answers struct {
	Member, Members uint8
	Cluster         uint8
	Key             string // base64
	Made            bool   // the key was made here
	Registration    string // interface of the licence and of management
	Address         netip.Prefix
	Sync            string // interface between the members; "" for none
	Seal            bool   // the secrets are sealed to the TPM
}

// Question is what is asked next.
type Question struct {
	Text    string
	Default string // taken for an empty answer; "" means that one is needed
	Hint    string // shown once before it
}

// Wizard asks one question after the other.
type Wizard struct {
	Answers
	nics  []NIC
	steps []step
	at    int
}

// New begins. nics are those of the device, in order; tpm: it has a TPM 2.0.
func New(nics []NIC, tpm bool) *Wizard {
	w := &Wizard{nics: nics, steps: steps}
	if tpm {
		w.steps = append(slices.Clone(steps), sealStep)
	}
	return w
}

// step is one question.
type step struct {
	ask  func(*Wizard) Question
	take func(*Wizard, string) error
}

// None is the answer for no interface.
const None = "none"

var steps = []step{
	{func(w *Wizard) Question {
		return Question{Text: "Member ID of this device (1 to 8)", Default: "1", Hint: "Every device of a cluster has an ID of its own."}
	}, func(w *Wizard, s string) (err error) { w.Member, err = number(s, 1, node.MaxMembers); return err }},
	{func(w *Wizard) Question {
		return Question{Text: "Members in the cluster (2 to 8)", Default: strconv.Itoa(max(2, int(w.Member)))}
	}, func(w *Wizard, s string) (err error) {
		w.Members, err = number(s, max(2, w.Member), node.MaxMembers)
		return err
	}},
	{func(w *Wizard) Question {
		return Question{Text: "Cluster ID (1 to 255)", Hint: "The same on all its members, and on no other cluster of these networks."}
	}, func(w *Wizard, s string) (err error) { w.Cluster, err = number(s, 1, 255); return err }},
	{func(w *Wizard) Question {
		return Question{Text: "Cluster key (Enter: make one)", Default: "new", Hint: "A secret of 32 bytes in base64, the same on all members. Make it on the first, paste it on the others."}
	}, (*Wizard).takeKey},
	{func(w *Wizard) Question {
		return Question{Text: "Registration interface", Default: w.best(), Hint: "The licence is bound to its MAC, and management reaches the device there. Interfaces: " + w.list()}
	}, func(w *Wizard, s string) (err error) { w.Registration, err = w.nic(s, ""); return err }},
	{func(w *Wizard) Question {
		return Question{Text: "Management address, e.g. 192.168.1." + strconv.Itoa(int(w.Member)+1) + "/24"}
	}, (*Wizard).takeAddress},
	{func(w *Wizard) Question {
		return Question{Text: "Sync interface (or " + None + ")", Default: w.last(), Hint: "The cable between the members, for heartbeats and connections."}
	}, func(w *Wizard, s string) (err error) {
		if s == None {
			w.Sync = ""
			return nil
		}
		w.Sync, err = w.nic(s, w.Registration)
		return err
	}},
}

// sealStep is asked where there is a TPM.
var sealStep = step{func(*Wizard) Question {
	return Question{Text: "Seal the secrets to the TPM (yes or no)", Default: "yes",
		Hint: "Cluster key, password and host key are then encrypted, and only this device can read them: the disk alone gives nothing away.\n" +
			"There will be a recovery key to write down, for the day when the TPM or secure boot is changed."}
}, func(w *Wizard, s string) error {
	if s != "yes" && s != "no" {
		return fmt.Errorf("%.20q is neither yes nor no", s)
	}
	w.Seal = s == "yes"
	return nil
}}

// Question is the next one; false when all have been answered.
func (w *Wizard) Question() (Question, bool) {
	if w.at == len(w.steps) {
		return Question{}, false
	}
	return w.steps[w.at].ask(w), true
}

// Answer takes one. An error says what is wrong with it; then the same question comes again.
func (w *Wizard) Answer(text string) error {
	q, more := w.Question()
	if !more {
		return nil
	}
	text = strings.TrimSpace(text)
	if text == "" {
		text = q.Default
	}
	if text == "" {
		return fmt.Errorf("an answer is needed")
	}
	if err := w.steps[w.at].take(w, text); err != nil {
		return err
	}
	w.at++
	return nil
}

// Again begins anew; the key that was made stays.
func (w *Wizard) Again() { w.at = 0 }

func number(s string, least, most uint8) (uint8, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || uint8(n) < least || uint8(n) > most {
		return 0, fmt.Errorf("%.20q is not a number from %d to %d", s, least, most)
	}
	return uint8(n), nil
}

func (w *Wizard) takeKey(s string) error {
	if s == "new" {
		if !w.Made {
			key := make([]byte, node.KeySize)
			rand.Read(key) // never fails
			w.Key, w.Made = base64.StdEncoding.EncodeToString(key), true
		}
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != node.KeySize {
		return fmt.Errorf("a key is %d bytes in base64, which are %d characters; these are %d", node.KeySize, base64.StdEncoding.EncodedLen(node.KeySize), len(s))
	}
	w.Key, w.Made = s, false
	return nil
}

func (w *Wizard) takeAddress(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return fmt.Errorf("%.40q is not an IPv4 address with the length of its network, as 192.168.1.2/24", s)
	}
	old := w.Address
	w.Address = p
	// The node file's own rules decide.
	probe := w.Answers
	probe.Sync = ""
	if _, _, err := node.Parse(node.FileName, probe.NodeFile()); err != nil {
		w.Address = old
		if list, ok := err.(node.ErrorList); ok && len(list) > 0 {
			return fmt.Errorf("%s: %s", list[0].Message, list[0].Hint)
		}
		return err
	}
	return nil
}

func (w *Wizard) nic(name, taken string) (string, error) {
	for _, n := range w.nics {
		if n.Name == name && name != taken {
			return name, nil
		}
	}
	if name == taken {
		return "", fmt.Errorf("%s is the registration interface", name)
	}
	return "", fmt.Errorf("there is no interface %.20q: %s", name, w.list())
}

func (w *Wizard) list() string {
	var out []string
	for _, n := range w.nics {
		text := n.MAC
		if n.Link { // a NIC that is down does not know
			text += ", link"
		}
		out = append(out, fmt.Sprintf("%s (%s)", n.Name, text))
	}
	return strings.Join(out, ", ")
}

func (w *Wizard) best() string {
	for _, n := range w.nics {
		if n.Link {
			return n.Name
		}
	}
	if len(w.nics) > 0 {
		return w.nics[0].Name
	}
	return ""
}

// last is the last interface that is not the registration interface.
func (w *Wizard) last() string {
	for i := len(w.nics) - 1; i >= 0; i-- {
		if w.nics[i].Name != w.Registration {
			return w.nics[i].Name
		}
	}
	return None
}

// Summary is the answers for people, without the key.
func (a Answers) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Member %d of %d in cluster %d\n", a.Member, a.Members, a.Cluster)
	fmt.Fprintf(&b, "Management and licence: %s with %s\n", a.Registration, a.Address)
	if a.Sync != "" {
		fmt.Fprintf(&b, "Between the members: %s with %s\n", a.Sync, a.syncAddress())
	}
	if a.Seal {
		fmt.Fprintf(&b, "Secrets: sealed to the TPM of this device\n")
	}
	return b.String()
}

// syncAddress is link-local (RFC 3927), from the IDs: nobody has to think of one.
func (a Answers) syncAddress() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, a.Cluster, a.Member}), 24)
}

// NodeFile is the node file. Members are called gw-ID; the lower the ID, the higher the priority.
func (a Answers) NodeFile() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by the first setup.\nversion: 1\nhostname: gw-%d\nboard: auto\ncluster:\n  id: %d\n  name: cluster-%d\n  member: %d\n  key: %s\n  members:\n",
		a.Member, a.Cluster, a.Cluster, a.Member, a.Key)
	for id := uint8(1); id <= a.Members; id++ {
		fmt.Fprintf(&b, "    - {id: %d, name: gw-%d, priority: %d}\n", id, id, 130-10*int(id))
	}
	fmt.Fprintf(&b, "registration: %s\ninterfaces:\n  - {name: %s, zone: lan, address: %s}\n", a.Registration, a.Registration, a.Address)
	if a.Sync != "" {
		fmt.Fprintf(&b, "  - {name: %s, sync: true, address: %s}\n", a.Sync, a.syncAddress())
	}
	return []byte(b.String())
}
