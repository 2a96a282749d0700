package power

import "testing"

// What is neither poweroff nor reboot must be refused before anything is killed.
func TestDownRefuses(t *testing.T) {
	err := Down("halt", func(string, ...any) { t.Error("something was done") })
	if err == nil || err.Error() != `power: "halt" is neither poweroff nor reboot` {
		t.Error(err)
	}
}
