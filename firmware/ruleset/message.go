package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// message is one netlink message of the transaction, and what it is about.
type message struct {
	label string
	netlink.Message
}

// recorder collects the messages that google/nftables makes instead of sending them: Apply sends them itself, to know
// which of them the kernel refuses.
type recorder struct {
	conn   *nftables.Conn
	labels []string
	sent   []netlink.Message
}

func newRecorder() (*recorder, error) {
	r := new(recorder)
	conn, err := nftables.New(nftables.WithTestDial(func(sent []netlink.Message) ([]netlink.Message, error) {
		if len(sent) > 0 {
			r.sent = sent[1 : len(sent)-1] // without the marks of the batch
		}
		return nil, errRecorded
	}))
	r.conn = conn
	return r, err
}

// errRecorded ends a Flush that was only to be recorded. The library waits for no more answers after a permission error.
var errRecorded = fmt.Errorf("recorded, not sent: %w", os.ErrPermission)

// say labels the next message.
func (r *recorder) say(format string, args ...any) {
	r.labels = append(r.labels, fmt.Sprintf(format, args...))
}

// messages gives what was recorded.
func (r *recorder) messages() ([]message, error) {
	if len(r.labels) == 0 {
		return nil, nil
	}
	if err := r.conn.Flush(); !errors.Is(err, errRecorded) {
		return nil, err
	}
	if len(r.sent) != len(r.labels) {
		return nil, fmt.Errorf("%d messages for %d parts of the ruleset", len(r.sent), len(r.labels))
	}
	out := make([]message, len(r.sent))
	for i, m := range r.sent {
		out[i] = message{r.labels[i], m}
	}
	return out, nil
}

// messages are the whole transaction. Maps refer to chains and rules to sets, so the order is chains, sets, elements,
// rules. What old holds of use stays in place; the rest goes.
func (r *Ruleset) messages(old *present) ([]message, error) {
	head, err := newRecorder()
	if err != nil {
		return nil, err
	}
	table := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	c := head.conn
	if old == nil { // whatever there is, it goes as a whole
		for _, do := range []func(){func() { c.AddTable(table) }, func() { c.DelTable(table) }} {
			head.say("table %s", Table) // the first so that there is one to delete
			do()
		}
		old = &present{}
	}
	head.say("table %s", Table)
	c.AddTable(table)
	r.clear(head, table, old)
	r.objects(head, table, old)
	chains := make(map[string]*nftables.Chain, len(r.chains))
	for _, ch := range r.chains {
		k := &nftables.Chain{Name: ch.name, Table: table}
		chains[ch.name] = k
		if b := ch.base; b != nil {
			k.Type, k.Hooknum, k.Priority, k.Policy = b.kind, b.hook, b.priority, &b.policy
		}
		if old.keepsChain(ch) {
			continue
		}
		head.say("chain %s", ch.name)
		c.AddChain(k)
	}
	var fresh []*set
	for _, s := range r.sets {
		if old.keepsSet(s.name) {
			continue
		}
		fresh = append(fresh, s)
		k, err := s.kernel(table)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", s.name, err)
		}
		head.say("set %s", s.name)
		if err := c.AddSet(k, nil); err != nil {
			return nil, fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	out, err := head.messages()
	if err != nil {
		return nil, err
	}
	for _, s := range fresh {
		out = append(out, s.messages()...)
	}
	more, err := r.ruleMessages(table, chains)
	return append(out, more...), err
}

// objects names what rules refer to besides chains and sets: counters, limits, helpers, the flowtable.
func (r *Ruleset) objects(head *recorder, table *nftables.Table, old *present) {
	c := head.conn
	for _, name := range r.counters {
		if old.counters[name] {
			continue
		}
		head.say("counter of %s", name)
		c.AddObj(&nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: r.count(name)})
	}
	for _, l := range r.limits {
		head.say("limit of %s", l.name)
		c.AddObj(&nftables.NamedObj{Table: table, Name: l.name, Type: nftables.ObjTypeLimit, Obj: &expr.Limit{
			Type: expr.LimitTypePkts, Rate: l.rate, Unit: units[l.unit], Burst: uint32(l.burst),
		}})
	}
	for _, p := range r.helpers {
		if slices.Contains(old.helpers, string(p)) {
			continue
		}
		head.say("helper %s", p)
		c.AddObj(helperObject(table, p))
	}
	if len(r.fast) > 0 && !slices.Equal(r.fast, old.fast) {
		head.say(flowtable)
		c.AddFlowtable(&nftables.Flowtable{Table: table, Name: flowtable, Devices: r.fast})
	}
}

// ruleMessages are the rules of all chains.
func (r *Ruleset) ruleMessages(table *nftables.Table, chains map[string]*nftables.Chain) ([]message, error) {
	rec, err := newRecorder()
	if err != nil {
		return nil, err
	}
	for _, ch := range r.chains {
		for _, rule := range ch.rules {
			var exprs []expr.Any
			for _, t := range rule.terms {
				exprs = append(exprs, t.exprs...)
			}
			rec.say("rule %s (%s)", rule.id, rule)
			rec.conn.AddRule(&nftables.Rule{Table: table, Chain: chains[ch.name], Exprs: exprs})
		}
	}
	return rec.messages()
}

// count gives a named counter what it had.
func (r *Ruleset) count(name string) *expr.Counter {
	before := r.before.named[name]
	return &expr.Counter{Packets: before.Packets, Bytes: before.Bytes}
}

// Attributes that x/sys does not have (linux/netfilter/nf_tables.h).
const (
	setElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END
	udataComment  = 0  // NFTNL_UDATA_SET_ELEM_COMMENT
)

// maxElements bounds the elements in one message: the length of an attribute has 16 bits.
const maxElements = math.MaxUint16 - 1024

// messages encode the elements. google/nftables would do, but knows no counters of elements and takes three times as
// long (docs/decisions/0020).
func (s *set) messages() []message {
	var out []message
	var list []byte
	flush := func() {
		if len(list) == 0 {
			return
		}
		data := []byte{unix.NFPROTO_INET, 0, 0, 0} // struct nfgenmsg
		data = text(data, unix.NFTA_SET_ELEM_LIST_TABLE, Table)
		data = text(data, unix.NFTA_SET_ELEM_LIST_SET, s.name)
		data = attribute(data, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, list)
		out = append(out, message{"elements of set " + s.name, netlink.Message{
			Header: netlink.Header{
				Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM),
				Flags: netlink.Request | netlink.Create,
			},
			Data: data,
		}})
		list = nil
	}
	for i := range s.elements {
		e := &s.elements[i]
		if len(list) > maxElements-1024 {
			flush()
		}
		list = s.element(list, e)
		if s.interval && len(s.key) == 1 {
			if end, ok := next(e.last); ok {
				list = nested(list, unix.NFTA_LIST_ELEM, func(b []byte) []byte {
					b = attribute(b, unix.NFTA_SET_ELEM_FLAGS, binary.BigEndian.AppendUint32(nil, unix.NFT_SET_ELEM_INTERVAL_END))
					return value(b, unix.NFTA_SET_ELEM_KEY, end)
				})
			}
		}
	}
	flush()
	return out
}

func (s *set) element(list []byte, e *element) []byte {
	return nested(list, unix.NFTA_LIST_ELEM, func(b []byte) []byte {
		b = value(b, unix.NFTA_SET_ELEM_KEY, e.first)
		if s.interval && len(s.key) > 1 {
			b = value(b, setElemKeyEnd, e.last)
		}
		switch {
		case s.verdicts:
			b = nested(b, unix.NFTA_SET_ELEM_DATA, func(b []byte) []byte {
				return nested(b, unix.NFTA_DATA_VERDICT, func(b []byte) []byte {
					jump := int32(unix.NFT_JUMP)
					b = attribute(b, unix.NFTA_VERDICT_CODE, binary.BigEndian.AppendUint32(nil, uint32(jump)))
					return text(b, unix.NFTA_VERDICT_CHAIN, e.jump)
				})
			})
		case s.data != nil:
			b = value(b, unix.NFTA_SET_ELEM_DATA, e.data)
		}
		if s.counted {
			comment := append([]byte{udataComment, byte(len(e.id) + 1)}, e.id...)
			b = attribute(b, unix.NFTA_SET_ELEM_USERDATA, append(comment, 0))
		}
		if e.packets != 0 {
			b = nested(b, unix.NFTA_SET_ELEM_EXPR, func(b []byte) []byte {
				b = text(b, unix.NFTA_EXPR_NAME, "counter")
				return nested(b, unix.NFTA_EXPR_DATA, func(b []byte) []byte {
					b = attribute(b, unix.NFTA_COUNTER_BYTES, binary.BigEndian.AppendUint64(nil, e.bytes))
					return attribute(b, unix.NFTA_COUNTER_PACKETS, binary.BigEndian.AppendUint64(nil, e.packets))
				})
			})
		}
		return b
	})
}

// next is the key behind a range; not ok behind the last address of all.
func next(last []byte) ([]byte, bool) {
	out := append([]byte(nil), last...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}

// attribute appends a netlink attribute: length, type, data, padding to 4 bytes.
func attribute(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return padded(b, data)
}

func text(b []byte, kind uint16, s string) []byte { return attribute(b, kind, append([]byte(s), 0)) }

// nested appends an attribute that holds others.
func nested(b []byte, kind uint16, fill func([]byte) []byte) []byte {
	at := len(b)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED)
	b = fill(b)
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

// value appends a key or a value of a set.
func value(b []byte, kind uint16, data []byte) []byte {
	return nested(b, kind, func(b []byte) []byte { return attribute(b, unix.NFTA_DATA_VALUE, data) })
}
