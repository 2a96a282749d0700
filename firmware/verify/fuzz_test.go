package verify

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// FuzzJudge: whatever a member says of itself, there is a verdict, and it is bad unless the member says that all is well.
func FuzzJudge(f *testing.F) {
	c := good()
	for i := range c.Members {
		data, err := json.Marshal(c.Members[i].MemberEvidence)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"status":{"state":"ACTIVE","vips":null,"peers":[{}]},"routes":{"routes":[{"kind":"management"}]},"frames":[{"vips":[""]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := good()
		var e api.MemberEvidence
		if json.Unmarshal(data, &e) != nil {
			return
		}
		c.Members[0].MemberEvidence = e
		v := Judge(c)
		if len(v.Steps) != 6 {
			t.Fatalf("%d steps", len(v.Steps))
		}
		if v.Result == api.VerifyOK && (strings.HasPrefix(e.Status.State, "ACTIVE") || e.Status.Gate.Open || e.Status.Holder != 2 || e.Errors["status"] != "") {
			t.Fatalf("gw-a says %+v, and all is ok", e.Status)
		}
	})
}
