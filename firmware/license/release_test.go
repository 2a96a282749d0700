package license

import (
	"os/exec"
	"strings"
	"testing"
)

// TestReleaseIsWithoutTheDevelopmentKey: it is not even among the packages of the product.
func TestReleaseIsWithoutTheDevelopmentKey(t *testing.T) {
	for _, tt := range []struct {
		tags string
		want bool
	}{{"", false}, {"lab", true}} {
		deps, err := exec.Command("go", "list", "-tags", tt.tags, "-deps", "github.com/twinkeep/twinkeep/firmware/twinkeep").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(deps), "license/devkey"); got != tt.want {
			t.Errorf("tags %q: the product has the development key: %v", tt.tags, got)
		}
	}
}
