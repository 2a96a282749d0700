package ccp

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Opcode says what a packet's payload is.
type Opcode uint16

// The opcodes, numbered as ClusterXL does.
const (
	OpMyState Opcode = iota + 1
	OpQueryState
	OpIfProbeReq
	OpIfProbeReply
	OpIfConfReq
	OpIfConfReply
	OpLBConf
	OpLBConfirm
	OpPolicyChange
	OpSync
)

var opcodeNames = [...]string{OpMyState: "MY_STATE", OpQueryState: "QUERY_STATE", OpIfProbeReq: "IF_PROBE_REQ",
	OpIfProbeReply: "IF_PROBE_REPLY", OpIfConfReq: "IFCONF_REQ", OpIfConfReply: "IFCONF_REPLY", OpLBConf: "LB_CONF",
	OpLBConfirm: "LB_CONFIRM", OpPolicyChange: "POLICY_CHANGE", OpSync: "SYNC"}

// String returns the opcode's name as the field knows it.
func (o Opcode) String() string { return name(opcodeNames[:], o, "OPCODE") }

// State of a member as CCP knows it. Active attention is Active here.
type State uint8

const (
	Down State = iota
	Initializing
	Standby
	Ready
	Active
)

var stateNames = [...]string{Down: "DOWN", Initializing: "INIT", Standby: "STANDBY", Ready: "READY", Active: "ACTIVE"}

// String returns the state as operators know it.
func (s State) String() string { return name(stateNames[:], s, "STATE") }

// StateOf returns what CCP says of a member in a heartbeat's state. A lost member is down.
func StateOf(s wire.State) State {
	switch s {
	case wire.Init:
		return Initializing
	case wire.Ready:
		return Ready
	case wire.Standby:
		return Standby
	case wire.Active, wire.ActiveAttention:
		return Active
	default:
		return Down
	}
}

// Mode is how the cluster chooses its active member.
type Mode uint16

const (
	UndefinedMode Mode = iota
	NotActive          // high availability is off
	Balance            // several members are active
	PrimaryUp          // the member of the highest priority takes the role back
	ActiveUp           // whoever is active stays so
)

var modeNames = [...]string{UndefinedMode: "undefined", NotActive: "not-active", Balance: "balance", PrimaryUp: "primary-up", ActiveUp: "active-up"}

// String returns the mode as operators know it.
func (m Mode) String() string { return name(modeNames[:], m, "mode") }

// PolicyStatus is what a member says of a policy.
type PolicyStatus uint32

const (
	NewPolicy        PolicyStatus = iota + 1 // a new policy is here; the cluster's own configuration stays
	NewPolicyCluster                         // a new policy is here, and it changes the cluster's configuration
	ReadyToChange                            // the sender can switch now
)

var statusNames = [...]string{NewPolicy: "new-policy", NewPolicyCluster: "new-policy-cluster", ReadyToChange: "ready-to-change"}

// String returns a name for logs.
func (s PolicyStatus) String() string { return name(statusNames[:], s, "status") }

func name[T ~uint8 | ~uint16 | ~uint32](names []string, v T, kind string) string {
	if uint64(v) < uint64(len(names)) && names[v] != "" {
		return names[v]
	}
	return fmt.Sprintf("%s(%d)", kind, v)
}

// Message is the payload of one packet: one of the types of this file, by value.
type Message interface {
	Opcode() Opcode
	append(dst []byte) []byte
}

// MyState reports what the sender thinks of every member, and of the interface it left by.
type MyState struct {
	Mode Mode
	// TimeUnit is what LastSeen counts in, in milliseconds.
	TimeUnit uint16
	// States of the members, that of member 1 first; nil leaves them out.
	States []State
	// Interfaces is nil when they are left out.
	Interfaces *InterfaceReport
}

// Never is the largest number of time units: that long ago or longer, or never. Higher ones would show as
// negative in Wireshark.
const Never = math.MaxInt8

// InterfaceReport counts interfaces, 127 at most of each kind. An interface is assumed up when nothing
// speaks against it but no packet has proved it.
type InterfaceReport struct {
	InUp, InAssumedUp, OutUp, OutAssumedUp uint8
	// LastSeen says how many time units ago each member was heard, member 1 first, [Never] at most.
	LastSeen []uint8
}

// QueryState asks for a MyState.
type QueryState struct{}

// IfProbeReq asks whoever hears it to answer; it is sent by an interface that has gone silent.
type IfProbeReq struct {
	Interface uint8
}

// IfProbeReply answers with the number of the request's interface.
type IfProbeReply struct {
	Interface uint8
}

// IfConfReq asks for the configuration of the interface it arrives on.
type IfConfReq struct{}

// IfConfReply is the configuration of the interface it left by.
type IfConfReply struct {
	MAC wire.MAC
	// Trusted says that the interface is for the cluster alone: a sync interface.
	Trusted bool
	// Addr is an IPv4 address; anything else is sent as 0.0.0.0.
	Addr netip.Addr
}

// LBConf proposes who serves what share of the load.
type LBConf struct {
	Slot    uint8
	Machine uint8 // member ID, 0 for none
	Seed    uint32
	// Hash has the member of each bucket, MaxHash buckets at most.
	Hash []uint8
}

// LBConfirm agrees to the LBConf of the same slot, machine and seed.
type LBConfirm struct {
	Slot    uint8
	Machine uint8
	Seed    uint32
}

// PolicyChange tells of a policy on its way in; its ID is in the packet's header.
type PolicyChange struct {
	Status PolicyStatus
}

// Sync carries state, MaxSync bytes at most. It is authenticated but not encrypted.
type Sync struct {
	Data []byte
}

// Opcode returns the opcode of each message.
func (MyState) Opcode() Opcode      { return OpMyState }
func (QueryState) Opcode() Opcode   { return OpQueryState }
func (IfProbeReq) Opcode() Opcode   { return OpIfProbeReq }
func (IfProbeReply) Opcode() Opcode { return OpIfProbeReply }
func (IfConfReq) Opcode() Opcode    { return OpIfConfReq }
func (IfConfReply) Opcode() Opcode  { return OpIfConfReply }
func (LBConf) Opcode() Opcode       { return OpLBConf }
func (LBConfirm) Opcode() Opcode    { return OpLBConfirm }
func (PolicyChange) Opcode() Opcode { return OpPolicyChange }
func (Sync) Opcode() Opcode         { return OpSync }

// Bits of a MyState's report code.
const (
	reportStates = 1 << iota
	reportInterfaces
)

// Lengths of the fixed part of each payload.
const (
	myStateLen = 8
	ifStateLen = 4
	probeLen   = 4
	ifConfLen  = 16
	lbLen      = 8
	hashLenLen = 4
	policyLen  = 4
	syncLenLen = 2
)

// append writes both lists as long as the longer one: a member of whom nothing is said is down and was
// never heard.
func (m MyState) append(dst []byte) []byte {
	be := binary.BigEndian
	n, code := len(m.States), uint16(0)
	if n > 0 {
		code |= reportStates
	}
	if m.Interfaces != nil {
		n, code = max(n, len(m.Interfaces.LastSeen)), code|reportInterfaces
	}
	dst = be.AppendUint16(dst, uint16(n))
	dst = be.AppendUint16(dst, code)
	dst = be.AppendUint16(dst, uint16(m.Mode))
	dst = be.AppendUint16(dst, m.TimeUnit)
	if code&reportStates != 0 {
		for i := range n {
			s := Down
			if i < len(m.States) {
				s = m.States[i]
			}
			dst = append(dst, byte(s))
		}
	}
	if r := m.Interfaces; r != nil {
		dst = append(dst, r.InUp, r.InAssumedUp, r.OutUp, r.OutAssumedUp)
		for i := range n {
			seen := uint8(Never)
			if i < len(r.LastSeen) {
				seen = min(r.LastSeen[i], Never)
			}
			dst = append(dst, seen)
		}
	}
	return dst
}

func (QueryState) append(dst []byte) []byte { return dst }

func (m IfProbeReq) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(m.Interface))
}

func (m IfProbeReply) append(dst []byte) []byte { return IfProbeReq(m).append(dst) }

func (IfConfReq) append(dst []byte) []byte { return dst }

func (m IfConfReply) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 1)
	dst = append(dst, m.MAC[:]...)
	if m.Trusted {
		dst = append(dst, 0, 1)
	} else {
		dst = append(dst, 0, 0)
	}
	var a [4]byte
	if m.Addr.Unmap().Is4() {
		a = m.Addr.As4()
	}
	return append(dst, a[:]...)
}

func (m LBConf) append(dst []byte) []byte {
	dst = LBConfirm{m.Slot, m.Machine, m.Seed}.append(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m.Hash)))
	return append(dst, m.Hash...)
}

func (m LBConfirm) append(dst []byte) []byte {
	dst = append(dst, 0, m.Slot, 0, m.Machine)
	return binary.BigEndian.AppendUint32(dst, m.Seed)
}

func (m PolicyChange) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(m.Status))
}

func (m Sync) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Data)))
	return append(dst, m.Data...)
}

// parseMessage reads the payload of op at the start of p and returns what follows it.
func parseMessage(op Opcode, p []byte) (Message, []byte, error) {
	switch op {
	case OpMyState:
		return parseMyState(p)
	case OpQueryState:
		return QueryState{}, p, nil
	case OpIfProbeReq, OpIfProbeReply:
		return parseProbe(op, p)
	case OpIfConfReq:
		return IfConfReq{}, p, nil
	case OpIfConfReply:
		return parseIfConf(p)
	case OpLBConf, OpLBConfirm:
		return parseLB(op, p)
	case OpPolicyChange:
		return parsePolicyChange(p)
	case OpSync:
		return parseSync(p)
	}
	return nil, nil, UnknownOpcode
}

func parseMyState(p []byte) (Message, []byte, error) {
	if len(p) < myStateLen {
		return nil, nil, wire.Truncated
	}
	be := binary.BigEndian
	n, code := int(be.Uint16(p)), be.Uint16(p[2:])
	m := MyState{Mode: Mode(be.Uint16(p[4:])), TimeUnit: be.Uint16(p[6:])}
	p = p[myStateLen:]
	withStates, withInterfaces := code&reportStates != 0, code&reportInterfaces != 0
	switch {
	case n > MaxMembers:
		return nil, nil, wire.Oversized
	case code > reportStates|reportInterfaces, m.Mode > ActiveUp, withStates && n == 0, code == 0 && n > 0:
		return nil, nil, wire.Malformed
	}
	if withStates {
		if len(p) < n {
			return nil, nil, wire.Truncated
		}
		for _, s := range p[:n] {
			if State(s) > Active {
				return nil, nil, wire.Malformed
			}
			m.States = append(m.States, State(s))
		}
		p = p[n:]
	}
	if withInterfaces {
		if len(p) < ifStateLen+n {
			return nil, nil, wire.Truncated
		}
		for _, v := range p[:ifStateLen+n] {
			if v > math.MaxInt8 {
				return nil, nil, wire.Malformed
			}
		}
		m.Interfaces = &InterfaceReport{InUp: p[0], InAssumedUp: p[1], OutUp: p[2], OutAssumedUp: p[3],
			LastSeen: append([]uint8(nil), p[ifStateLen:ifStateLen+n]...)}
		p = p[ifStateLen+n:]
	}
	return m, p, nil
}

func parseProbe(op Opcode, p []byte) (Message, []byte, error) {
	if len(p) < probeLen {
		return nil, nil, wire.Truncated
	}
	n := binary.BigEndian.Uint32(p)
	if n > math.MaxUint8 {
		return nil, nil, wire.Malformed
	}
	m := IfProbeReq{Interface: uint8(n)}
	if op == OpIfProbeReply {
		return IfProbeReply(m), p[probeLen:], nil
	}
	return m, p[probeLen:], nil
}

func parseIfConf(p []byte) (Message, []byte, error) {
	if len(p) < ifConfLen {
		return nil, nil, wire.Truncated
	}
	be := binary.BigEndian
	n, trusted := be.Uint32(p), be.Uint16(p[10:])
	switch {
	case n > 1:
		return nil, nil, wire.Oversized
	case n == 0 || trusted > 1:
		return nil, nil, wire.Malformed
	}
	return IfConfReply{MAC: wire.MAC(p[4:10]), Trusted: trusted == 1, Addr: netip.AddrFrom4([4]byte(p[12:16]))}, p[ifConfLen:], nil
}

func parseLB(op Opcode, p []byte) (Message, []byte, error) {
	if len(p) < lbLen {
		return nil, nil, wire.Truncated
	}
	be := binary.BigEndian
	slot, machine := be.Uint16(p), be.Uint16(p[2:])
	if slot > math.MaxUint8 || machine > MaxMembers {
		return nil, nil, wire.Malformed
	}
	m := LBConfirm{Slot: uint8(slot), Machine: uint8(machine), Seed: be.Uint32(p[4:])}
	p = p[lbLen:]
	if op == OpLBConfirm {
		return m, p, nil
	}
	if len(p) < hashLenLen {
		return nil, nil, wire.Truncated
	}
	n := be.Uint32(p)
	p = p[hashLenLen:]
	switch {
	case n > MaxHash:
		return nil, nil, wire.Oversized
	case len(p) < int(n):
		return nil, nil, wire.Truncated
	}
	return LBConf{Slot: m.Slot, Machine: m.Machine, Seed: m.Seed, Hash: append([]uint8(nil), p[:n]...)}, p[n:], nil
}

func parsePolicyChange(p []byte) (Message, []byte, error) {
	if len(p) < policyLen {
		return nil, nil, wire.Truncated
	}
	m := PolicyChange{Status: PolicyStatus(binary.BigEndian.Uint32(p))}
	if m.Status < NewPolicy || m.Status > ReadyToChange {
		return nil, nil, wire.Malformed
	}
	return m, p[policyLen:], nil
}

func parseSync(p []byte) (Message, []byte, error) {
	if len(p) < syncLenLen {
		return nil, nil, wire.Truncated
	}
	n := int(binary.BigEndian.Uint16(p))
	p = p[syncLenLen:]
	switch {
	case n > MaxSync:
		return nil, nil, wire.Oversized
	case len(p) < n:
		return nil, nil, wire.Truncated
	}
	return Sync{Data: append([]byte(nil), p[:n]...)}, p[n:], nil
}
