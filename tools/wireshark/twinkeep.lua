-- Twinkeep heartbeats (UDP 999) for Wireshark and tshark. The layout is that of ha/wire, version 1.
--
--   tshark -X lua_script:twinkeep.lua -r capture.pcap -Y twinkeep
--   Wireshark: copy it into the personal plugin folder (Help, About, Folders)
--
-- The tag is not checked: that needs the cluster key.

local beat = Proto("twinkeep", "Twinkeep Heartbeat")

local states = {[1] = "INIT", [2] = "READY", [3] = "STANDBY", [4] = "ACTIVE", [5] = "ACTIVE!", [6] = "DOWN"}
local orders = {[0] = "none", [1] = "keep", [2] = "open", [3] = "shut", [4] = "drain"}

local f = {
	magic       = ProtoField.uint16("twinkeep.magic", "Magic", base.HEX),
	version     = ProtoField.uint8("twinkeep.version", "Version of the sender"),
	flags       = ProtoField.uint8("twinkeep.flags", "Flags", base.HEX),
	holder      = ProtoField.bool("twinkeep.flags.holder", "Holder: its gate may be open", 8, nil, 0x01),
	sync        = ProtoField.bool("twinkeep.flags.sync", "Sync interface", 8, nil, 0x02),
	insync      = ProtoField.bool("twinkeep.flags.in_sync", "In sync", 8, nil, 0x04),
	farewell    = ProtoField.bool("twinkeep.flags.farewell", "Farewell", 8, nil, 0x08),
	yielding    = ProtoField.bool("twinkeep.flags.yielding", "Yielding", 8, nil, 0x10),
	claiming    = ProtoField.bool("twinkeep.flags.claiming", "Claiming", 8, nil, 0x20),
	bidding     = ProtoField.bool("twinkeep.flags.bidding", "Bidding", 8, nil, 0x40),
	cluster     = ProtoField.uint8("twinkeep.cluster", "Cluster ID"),
	member      = ProtoField.uint8("twinkeep.member", "Member ID"),
	state       = ProtoField.uint8("twinkeep.state", "State", base.DEC, states),
	interface   = ProtoField.uint8("twinkeep.interface", "Interface number"),
	nonce       = ProtoField.uint64("twinkeep.nonce", "Boot nonce", base.HEX),
	seq         = ProtoField.uint64("twinkeep.seq", "Sequence"),
	term        = ProtoField.uint64("twinkeep.term", "Term"),
	demotion    = ProtoField.uint16("twinkeep.demotion", "Demotion"),
	priority    = ProtoField.uint8("twinkeep.priority", "Priority"),
	nn          = ProtoField.uint8("twinkeep.nn", "NN", base.HEX),
	connections = ProtoField.uint32("twinkeep.connections", "Connections"),
	serial      = ProtoField.uint64("twinkeep.serial", "Serial number", base.HEX),
	digest      = ProtoField.uint64("twinkeep.state_digest", "State digest", base.HEX),
	revision    = ProtoField.uint64("twinkeep.policy_revision", "Policy revision"),
	policy      = ProtoField.uint64("twinkeep.policy_digest", "Policy digest", base.HEX),
	order       = ProtoField.uint8("twinkeep.order", "Order to the sender's gate", base.DEC, orders),
	successor   = ProtoField.uint8("twinkeep.successor", "Successor"),
	heard       = ProtoField.none("twinkeep.heard", "Heard"),
	h_member    = ProtoField.uint8("twinkeep.heard.member", "Member ID"),
	h_nonce     = ProtoField.uint64("twinkeep.heard.nonce", "Boot nonce", base.HEX),
	h_seq       = ProtoField.uint64("twinkeep.heard.seq", "Sequence"),
	extension   = ProtoField.bytes("twinkeep.extension", "Extension area"),
	tag         = ProtoField.bytes("twinkeep.tag", "Authentication tag"),
}
beat.fields = f

local short = ProtoExpert.new("twinkeep.truncated", "Shorter than its own lengths say", expert.group.MALFORMED, expert.severity.ERROR)
local ttl = ProtoExpert.new("twinkeep.ttl", "TTL is not 255: it passed a router, members refuse it", expert.group.PROTOCOL, expert.severity.WARN)
beat.experts = {short, ttl}

local ip_ttl = Field.new("ip.ttl")

local HEAD, HEARD, TAG = 78, 18, 16

function beat.dissector(buf, pinfo, tree)
	if buf:len() < 8 or buf(0, 2):uint() ~= 0x544b then
		return 0
	end
	pinfo.cols.protocol = "TWINKEEP"
	local t = tree:add(beat, buf())
	if buf:len() < HEAD + TAG then
		t:add_proto_expert_info(short)
		return buf:len()
	end
	local hops = ip_ttl()
	if hops and hops.value ~= 255 then
		t:add_proto_expert_info(ttl)
	end
	t:add(f.magic, buf(0, 2))
	t:add(f.version, buf(2, 1))
	local flags = t:add(f.flags, buf(3, 1))
	for _, bit in ipairs({f.holder, f.sync, f.insync, f.farewell, f.yielding, f.claiming, f.bidding}) do
		flags:add(bit, buf(3, 1))
	end
	t:add(f.cluster, buf(4, 1))
	t:add(f.member, buf(5, 1))
	t:add(f.state, buf(6, 1))
	t:add(f.interface, buf(7, 1))
	t:add(f.nonce, buf(8, 8))
	t:add(f.seq, buf(16, 8))
	t:add(f.term, buf(24, 8))
	t:add(f.demotion, buf(32, 2))
	t:add(f.priority, buf(34, 1))
	t:add(f.nn, buf(35, 1))
	t:add(f.connections, buf(36, 4))
	t:add(f.serial, buf(40, 8))
	t:add(f.digest, buf(48, 8))
	t:add(f.revision, buf(56, 8))
	t:add(f.policy, buf(64, 8))
	t:add(f.order, buf(73, 1))
	t:add(f.successor, buf(74, 1))
	local n, x = buf(72, 1):uint(), buf(76, 2):uint()
	if buf:len() < HEAD + n * HEARD + x + TAG then
		t:add_proto_expert_info(short)
		return buf:len()
	end
	local at = HEAD
	for _ = 1, n do
		local h = t:add(f.heard, buf(at, HEARD))
		h:append_text(": member " .. buf(at, 1):uint() .. ", sequence " .. tostring(buf(at + 10, 8):uint64()))
		h:add(f.h_member, buf(at, 1))
		h:add(f.h_nonce, buf(at + 2, 8))
		h:add(f.h_seq, buf(at + 10, 8))
		at = at + HEARD
	end
	if x > 0 then
		t:add(f.extension, buf(at, x))
	end
	t:add(f.tag, buf(at + x, TAG))

	local state = states[buf(6, 1):uint()] or "?"
	local order = orders[buf(73, 1):uint()] or "?"
	pinfo.cols.info = string.format("cluster %d member %d %s, term %s, seq %s, gate: %s", buf(4, 1):uint(), buf(5, 1):uint(), state,
		tostring(buf(24, 8):uint64()), tostring(buf(16, 8):uint64()), order)
	return buf:len()
end

DissectorTable.get("udp.port"):add(999, beat)
