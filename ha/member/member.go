// Package member runs one cluster member: it drives the pure machine of ha/cluster with real NICs (ha/port),
// the kernel's gate (ha/gate) and virtual addresses (ha/vip). Everything the machine sees and does passes
// through one goroutine; the others only wait for the world and hand over what they saw.
package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp/speaker"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// Interface is one NIC of the member.
type Interface struct {
	Name      string // as operators know it
	Device    string // kernel name
	Number    uint8  // 1.., the same on all members for the same network
	NN        uint8
	Sync      bool
	Heartbeat bool
	Address   netip.Prefix // private address, IPv4
	VIPs      []netip.Addr
}

// Witness only judges, see cluster.Config.
type Witness struct {
	ID   uint8
	Name string
	// Address is where one behind routers takes heartbeats over UDP; not valid when it is on the members' links.
	Address netip.Addr
}

// Config of a member, or of a witness.
type Config struct {
	ClusterID      uint8
	ClusterName    string
	Self           uint8 // 1..8, a witness 9..11
	Members        []cluster.Member
	Witnesses      []Witness
	Safety, Lock   bool // see cluster.Config
	Serial         uint64
	Key            []byte // wire.KeyLen bytes
	ValidChecksums bool
	Timing         cluster.Timing
	Mode           cluster.Mode
	Interfaces     []Interface
	Devices        []cluster.Device // reports from before, taken in first
	Policy         cluster.Policy   // that this member runs
	// Role, if not nil, is called after this member took or lost the role, in a goroutine of its own.
	Role func()
	// Barrier, if not nil, returns when the successor has every connection, or cannot; a planned hand-over waits for it.
	Barrier  func(ctx context.Context, successor uint8)
	StateDir string // the term is kept here
	RunDir   string // the farewell is left here for the supervisor
	Log      *slog.Logger
}

// Reply is the answer to an operator.
type Reply = cluster.Reply

// Member is one running member.
type Member struct {
	cfg     Config
	log     *slog.Logger
	machine *cluster.Machine
	nonce   uint64 // of this boot
	key     *wire.Key
	ports   []*portState // by interface index
	paths   []*path      // over routers; their interface indices follow those of ports
	start   time.Time

	frames chan received
	calls  chan func()
	stop   chan struct{} // closed when the member is done
	doubt  chan struct{} // asks for a look at the kernel's gate right now
	spins  int           // how often the machine asked for ticks without an end

	ccp      *speaker.Speaker
	events   *eventLog
	term     *termFile
	lastLive cluster.Instant // when the last Keep or Open beat really left
	lastOut  cluster.Instant // when any heartbeat left by a NIC
	reply    cluster.Reply
	queue    []cluster.Input // found while carrying out actions
	gateErr  string
	changes  changeLog
	differs  differences
	ours     settings
	settings []byte // ours, for the heartbeats' extension area
	payload  []byte
	frame    []byte
}

// portState is one interface at run time.
type portState struct {
	Interface
	port        *port.Port // nil while the NIC is missing
	envelope    wire.Envelope
	announce    [][]byte
	up          bool
	present     bool
	vipErr      string
	unmonitored bool // by the operator
	doubles     doubles
	claims      *vip.Claims                        // open, of watchClaims
	origins     [cluster.MaxMembers + 1]netip.Addr // of heartbeats, by member ID
	sent        uint64
	failed      uint64
}

type received struct {
	iface int
	n     int
	from  netip.AddrPort // of a datagram over routers, else not valid
	data  [wire.MaxFrame + 1]byte
}

// New prepares a member: gate (shut), virtual addresses, sockets. A NIC that is missing is a problem of the
// member, not an error. Nothing has been sent when New returns.
func New(cfg Config) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	key, err := wire.NewKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	m := &Member{
		cfg: cfg, log: cfg.Log, key: key, nonce: nonce(), start: time.Now(),
		frames: make(chan received, 256), calls: make(chan func()), stop: make(chan struct{}), doubt: make(chan struct{}, 1),
		events: newEventLog(), ours: settingsOf(cfg),
	}
	m.settings = appendSettings(nil, m.ours)
	if m.term, err = openTerm(cfg.StateDir); err != nil {
		// Without the old term the member still hears the cluster's term from its peers.
		m.event(cluster.Log{Severity: cluster.Warning, Name: "state", Text: err.Error()})
	}
	machine, err := cluster.New(m.clusterConfig(), m.now())
	if err != nil {
		return nil, err
	}
	m.machine = machine
	if m.ccp, err = m.newSpeaker(); err != nil {
		return nil, err
	}
	for _, f := range cfg.Interfaces {
		m.ports = append(m.ports, &portState{Interface: f})
	}
	m.paths = cfg.paths()
	if err := m.install(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *Member) clusterConfig() cluster.Config {
	c := cluster.Config{
		Cluster: m.cfg.ClusterID, Self: m.cfg.Self, Members: m.cfg.Members, Serial: m.cfg.Serial,
		Timing: m.cfg.Timing, Mode: m.cfg.Mode, Term: m.term.get(), Nonce: m.nonce, Safety: m.cfg.Safety, Lock: m.cfg.Lock,
		Barrier: m.cfg.Barrier != nil,
	}
	for _, w := range m.cfg.Witnesses {
		c.Witnesses = append(c.Witnesses, cluster.Member{ID: w.ID, Name: w.Name})
	}
	for _, f := range m.cfg.Interfaces {
		c.Interfaces = append(c.Interfaces, cluster.Interface{Number: f.Number, Name: f.Name, NN: f.NN, Sync: f.Sync, Heartbeat: f.Heartbeat})
	}
	for _, p := range m.cfg.paths() {
		c.Interfaces = append(c.Interfaces, cluster.Interface{Number: p.number, Name: p.name, Heartbeat: true, Routed: true})
	}
	return c
}

func nonce() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails (crypto/rand)
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// now reads the monotonic clock. CLOCK_BOOTTIME would also count a suspend, but a suspended member has no
// beats to send and finds out by its lease all the same.
func (m *Member) now() cluster.Instant { return cluster.Instant(time.Since(m.start)) }

// install brings gate, addresses and sockets into the kernel for every NIC that is there.
func (m *Member) install() error {
	present, err := presentDevices()
	if err != nil {
		return err
	}
	var devices []gate.Device
	for _, p := range m.ports {
		p.present = present[p.Device]
		if p.present {
			devices = append(devices, gate.Device{Name: p.Device, Shared: wire.SharedMAC(p.NN, m.cfg.ClusterID), VIPs: p.VIPs})
		}
	}
	if len(devices) == 0 && len(m.ports) == 0 {
		return nil // a witness elsewhere: no NIC of its own, no gate
	}
	err = gate.Install(gate.Config{Cluster: m.cfg.ClusterID, Member: m.cfg.Self, Lease: m.cfg.Timing.Lease, Drain: m.cfg.Timing.Dead, Devices: devices})
	if err != nil {
		return err
	}
	for _, p := range m.ports {
		if p.present {
			p.vipErr = ""
			if err := m.bringUp(p); err != nil {
				p.vipErr = err.Error()
				m.event(cluster.Log{Severity: cluster.Error, Name: cluster.EvDevice, Text: "interface " + p.Name + ": " + err.Error()})
			}
		}
	}
	return nil
}

// bringUp prepares one NIC behind an installed gate.
func (m *Member) bringUp(p *portState) error {
	shared := wire.SharedMAC(p.NN, m.cfg.ClusterID)
	var err error
	if p.announce, err = vip.Announcement(shared, p.VIPs); err != nil {
		return err
	}
	if len(p.VIPs) > 0 {
		if err := vip.Ensure(vip.Config{Parent: p.Device, MAC: shared, Addrs: p.VIPs}); err != nil {
			return err
		}
	} else if err := vip.Remove(p.Device); err != nil {
		return err
	}
	mac, err := deviceMAC(p.Device)
	if err != nil {
		return err
	}
	p.envelope = wire.Envelope{
		Dst: wire.BeatMAC(p.NN, m.cfg.ClusterID), Src: mac, SrcIP: p.Address.Addr(), DstIP: broadcast(p.Address),
		ValidChecksums: m.cfg.ValidChecksums,
	}
	if p.port == nil {
		p.port, err = port.Open(p.Device)
	}
	return err
}

// Run drives the member until ctx ends; then it shuts its gate and says farewell.
func (m *Member) Run(ctx context.Context) error {
	defer m.close()
	if err := m.writeFarewell(); err != nil {
		m.log.Warn("the supervisor cannot say farewell for this process", "err", err)
	}
	for i, p := range m.ports {
		if p.port != nil {
			go m.receive(i, p.port)
		}
	}
	for _, p := range m.paths {
		go m.travel(p)
	}
	for _, p := range m.ports {
		go m.watchClaims(p)
	}
	for _, d := range m.cfg.Devices {
		m.step(d)
	}
	if m.cfg.Policy != (cluster.Policy{}) {
		m.step(m.cfg.Policy)
	}
	m.watch()
	if m.ccp != nil {
		go m.ccp.Run(m.stop)
	}
	for i, p := range m.ports {
		if !p.present || p.port == nil || p.vipErr != "" {
			m.step(cluster.Link{Interface: i, Missing: !p.present})
		}
	}
	m.loop(ctx)
	m.part()
	m.step(cluster.Leave{})
	removeFarewell(m.cfg.RunDir)
	return nil
}

// barrier waits for the successor's word, outside the machine's goroutine.
func (m *Member) barrier(successor uint8) {
	ctx, cancel := context.WithTimeout(context.Background(), cluster.BarrierPatience)
	defer cancel()
	m.cfg.Barrier(ctx, successor)
	m.do(func() { m.step(cluster.BarrierPassed{}) })
}

// part hands the role over before this member leaves, if that takes a word from the successor: what it has not heard of
// would be lost.
func (m *Member) part() {
	if m.cfg.Barrier == nil || !m.machine.Holds() {
		return
	}
	if m.step(cluster.Deactivate{}); !m.reply.OK {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*cluster.BarrierPatience)
	defer cancel()
	for m.machine.Holds() && ctx.Err() == nil {
		once, stop := context.WithTimeout(ctx, m.cfg.Timing.Beat)
		m.loop(once)
		stop()
	}
}

func (m *Member) close() {
	close(m.stop)
	for _, p := range m.ports {
		if p.port != nil {
			p.port.Close()
		}
	}
	m.term.close()
}
