package had

import "testing"

func TestLoad(t *testing.T) {
	if n, err := parsePressure("some avg10=0.12 avg60=0.30 avg300=0.25 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"); err != nil || n != 123456 {
		t.Errorf("%d, %v", n, err)
	}
	s, err := parseStat("cpu  10 20 30 400 50 6 7 8 9 1\ncpu0 1 2 3 4\n")
	if want := (sample{short: 81, all: 531}); err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"", "some", "full total=3", "some total=x", "cpu", "cpu a b c d", "cpu0 1 2 3 4"} {
		if _, err := parsePressure(bad); err == nil {
			t.Errorf("pressure in %q", bad)
		}
		if _, err := parseStat(bad); err == nil {
			t.Errorf("CPU times in %q", bad)
		}
	}
	for _, tt := range []struct {
		before, now sample
		want        float64
	}{
		{sample{}, sample{100, 100}, 0}, {sample{10, 100}, sample{60, 200}, 0.5}, {sample{10, 100}, sample{10, 100}, 0}, {sample{60, 200}, sample{10, 300}, 0},
	} {
		if got := tt.now.since(tt.before); got != tt.want {
			t.Errorf("%+v after %+v: %v, want %v", tt.now, tt.before, got, tt.want)
		}
	}
}
