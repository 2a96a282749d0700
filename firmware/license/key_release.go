//go:build !lab

package license

// Lab reports whether this firmware was built for the lab and believes the development key.
const Lab = false

func labKeys() Ring { return nil }
