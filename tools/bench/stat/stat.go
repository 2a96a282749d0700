// Package stat summarises small samples.
package stat

import (
	"fmt"
	"math"
	"slices"
)

// Summary of a sample. The zero value is that of an empty one.
type Summary struct {
	N                     int
	Min, Median, P95, Max float64
}

// Of summarises values; it leaves them as they are.
func Of(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return Summary{N: n, Min: s[0], Median: (s[(n-1)/2] + s[n/2]) / 2, P95: s[rank(95, n)], Max: s[n-1]}
}

// rank is the index of a percentile by the nearest-rank method: it is always a value that was measured. In a
// sample of less than 20 the 95th is the maximum.
func rank(percent, n int) int {
	return max(0, int(math.Ceil(float64(percent)*float64(n)/100))-1)
}

// String is "median / p95 / max (min)" with one decimal.
func (s Summary) String() string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f / %.1f / %.1f (%.1f)", s.Median, s.P95, s.Max, s.Min)
}

// Ratio of two medians, as "0.52"; a dash where there is nothing to divide.
func Ratio(a, b Summary) string {
	if a.N == 0 || b.N == 0 || b.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a.Median/b.Median)
}
