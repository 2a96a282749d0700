package policy

import (
	"reflect"
	"slices"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// MaxSize is the largest document that is read, in bytes: room for 100,000 rules.
const MaxSize = 16 << 20

// Parse reads and checks a document. name stands in front of every message. The error is a node.ErrorList with every
// fault of the document, in its order; the policy is nil then.
func Parse(name string, data []byte) (*Policy, node.Warnings, error) {
	d := &decoder{positions: positions{file: name, at: make(yamldoc.Positions)}}
	p := new(Policy)
	if len(data) > MaxSize {
		d.fail("", "", "the document has %d bytes, the most is %d", len(data), MaxSize)
	} else if root, fault := yamldoc.Parse(data); fault != nil {
		d.at[""] = fault.At
		d.fail("", fault.Hint, "%s", fault.Message)
	} else {
		d.value("", root, reflect.ValueOf(p).Elem(), &field{})
		if !d.at.Written("cluster.timing.silence") {
			p.Cluster.Timing.Silence = max(p.Cluster.Timing.Silence, 2*p.Cluster.Timing.Dead)
		}
		d.check(p)
	}
	inOrder(d.errors)
	inOrder(d.warnings)
	if len(d.errors) > 0 {
		return nil, d.warnings, d.errors
	}
	p.source = &d.positions
	return p, d.warnings, nil
}

// inOrder sorts by place, so that a person mends the document from top to bottom.
func inOrder(l []node.Problem) {
	slices.SortStableFunc(l, func(a, b node.Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}
