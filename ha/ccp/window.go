package ccp

// windowSize is how many sequences a [Window] looks back: more than one burst over all interfaces of a member, which
// can overtake each other.
const windowSize = 256

// Window keeps one sender's packets from being accepted twice, in the manner of RFC 4303 §3.4.3: one bit for each of
// the newest sequences, older ones are refused. The zero value has accepted nothing.
type Window struct {
	nonce  uint64
	newest uint64
	seen   [windowSize / 64]uint64
}

// Accept reports whether a packet of the boot nonce with this sequence is new, and remembers it. Another nonce starts
// the window anew: that it is the sender's present boot is for the caller to know.
func (w *Window) Accept(nonce, seq uint64) bool {
	if nonce != w.nonce {
		*w = Window{nonce: nonce, newest: seq}
		w.set(seq)
		return true
	}
	switch {
	case seq > w.newest:
		if seq-w.newest >= windowSize {
			w.seen = [windowSize / 64]uint64{}
		} else {
			for s := w.newest + 1; s != seq; s++ {
				w.clear(s)
			}
			w.clear(seq)
		}
		w.newest = seq
	case w.newest-seq >= windowSize || w.has(seq):
		return false
	}
	w.set(seq)
	return true
}

func (w *Window) has(seq uint64) bool { return w.seen[seq%windowSize/64]>>(seq%64)&1 != 0 }
func (w *Window) set(seq uint64)      { w.seen[seq%windowSize/64] |= 1 << (seq % 64) }
func (w *Window) clear(seq uint64)    { w.seen[seq%windowSize/64] &^= 1 << (seq % 64) }
