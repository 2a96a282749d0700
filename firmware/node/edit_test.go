package node

import (
	"strings"
	"testing"
)

// layouts are the ways in which people write the list of members.
var layouts = map[string]string{
	"flow entries": "  members: # all\n    - {id: 1, name: gw-a, priority: 120} # first\n    - {id: 2, name: gw-b}\n    - {id: 3, name: gw-c, priority: 80}\n",
	"one line":     "  members: [{id: 1, name: gw-a, priority: 120}, {id: 2, name: gw-b}, {id: 3, name: gw-c, priority: 80}]\n",
	"block":        "  members:\n  - id: 1\n    name: gw-a\n    priority: 120\n  - id: 2 # no priority\n    name: gw-b\n  # the third\n  - priority: 80\n    name: \"gw-c\"\n    id: 3\n",
}

func withMembers(members string) string {
	return "version: 1\nhostname: gw-a\ncluster:\n  id: 7\n  member: 1\n  key: REDACTED\n" + members +
		"  timing: {silence: 1s}\ninterfaces:\n  - {name: G1, zone: lan, address: 10.1.0.2/24} # priority: 120\n"
}

func TestSetPriority(t *testing.T) {
	for name, members := range layouts {
		t.Run(name, func(t *testing.T) {
			for id := uint8(1); id <= 3; id++ {
				old := withMembers(members)
				got, err := SetPriority([]byte(old), id, 77)
				if err != nil {
					t.Fatalf("member %d: %v", id, err)
				}
				n, err := parseRedacted(got)
				if err != nil || n.Cluster.Members[id-1].Priority != 77 {
					t.Errorf("member %d: %v\n%s", id, err, got)
				}
				if strings.Count(string(got), "#") != strings.Count(old, "#") || !strings.Contains(string(got), "key: REDACTED") {
					t.Errorf("comments or key are lost:\n%s", got)
				}
			}
			if _, err := SetPriority([]byte(withMembers(members)), 4, 77); err == nil {
				t.Error("a priority for a member that is not there")
			}
			if _, err := SetPriority([]byte(withMembers(members)), 1, 0); err == nil {
				t.Error("priority 0 is taken")
			}
		})
	}
}

func TestRemoveMember(t *testing.T) {
	for name, members := range layouts {
		t.Run(name, func(t *testing.T) {
			for id := uint8(2); id <= 3; id++ {
				got, err := RemoveMember([]byte(withMembers(members)), id)
				if err != nil {
					t.Fatalf("member %d: %v", id, err)
				}
				n, err := parseRedacted(got)
				if err != nil || len(n.Cluster.Members) != 2 || n.Cluster.Members[0].ID != 1 || n.Cluster.Members[1].ID == id {
					t.Errorf("member %d: %v\n%s", id, err, got)
				}
			}
			if _, err := RemoveMember([]byte(withMembers(members)), 1); err == nil {
				t.Error("a file without its own member is taken")
			}
		})
	}
}

func FuzzEdit(f *testing.F) {
	for _, members := range layouts {
		f.Add([]byte(withMembers(members)), uint8(2))
	}
	f.Fuzz(func(t *testing.T, data []byte, id uint8) {
		old, err := parseRedacted(data)
		if err != nil {
			return
		}
		if got, err := RemoveMember(data, id); err == nil {
			if n, err := parseRedacted(got); err != nil || len(n.Cluster.Members) != len(old.Cluster.Members)-1 {
				t.Errorf("%v\n%s", err, got)
			}
		}
		if got, err := SetPriority(data, id, 9); err == nil {
			if _, err := parseRedacted(got); err != nil {
				t.Errorf("%v\n%s", err, got)
			}
		}
	})
}
