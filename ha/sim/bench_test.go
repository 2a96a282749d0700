package sim

import "testing"

// BenchmarkHistory plays random histories, one after the other.
func BenchmarkHistory(b *testing.B) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h := Generate(uint64(i%1000), 0)
		h.Play(nil)
	}
}
