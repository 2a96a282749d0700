package stat

import (
	"slices"
	"testing"
)

func TestOf(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	tests := []struct {
		name   string
		values []float64
		want   Summary
	}{
		{"none", nil, Summary{}},
		{"one", []float64{7}, Summary{1, 7, 7, 7, 7}},
		{"two", []float64{4, 2}, Summary{2, 2, 3, 4, 4}},
		{"three", []float64{9, 1, 2}, Summary{3, 1, 2, 9, 9}},
		{"ten: p95 is the maximum", []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, Summary{10, 1, 5.5, 10, 10}},
		{"hundred", hundred, Summary{100, 1, 50.5, 95, 100}},
	}
	for _, tt := range tests {
		before := slices.Clone(tt.values)
		if got := Of(tt.values); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if !slices.Equal(before, tt.values) {
			t.Errorf("%s: the values were changed", tt.name)
		}
	}
}

func TestRatio(t *testing.T) {
	for _, tt := range []struct {
		a, b []float64
		want string
	}{
		{[]float64{1}, []float64{4}, "0.25"},
		{[]float64{1}, nil, "–"},
		{nil, []float64{1}, "–"},
		{[]float64{1}, []float64{0}, "–"},
		{[]float64{0}, []float64{2}, "0.00"},
	} {
		if got := Ratio(Of(tt.a), Of(tt.b)); got != tt.want {
			t.Errorf("%v to %v: %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestString(t *testing.T) {
	if got, want := Of([]float64{3, 1, 2}).String(), "2.0 / 3.0 / 3.0 (1.0)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Of(nil).String(); got != "–" {
		t.Errorf("nothing measured is written %q", got)
	}
}
