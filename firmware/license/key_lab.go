//go:build lab

package license

import "github.com/twinkeep/twinkeep/firmware/license/devkey"

// Lab reports whether this firmware was built for the lab and believes the development key.
const Lab = true

func labKeys() Ring {
	return Ring{DevelopmentKeyID: devkey.Public()}
}
