package crypt

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestRemainders compares long divisions with those of math/big, at edges as well.
func TestRemainders(t *testing.T) {
	numbers := [][]uint64{{0}, {1}, {^uint64(0), ^uint64(0), ^uint64(0)}, {0, 0, 1 << 63}, {5, ^uint64(0)}}
	divisors := []uint64{1, 3, 1 << 63, 1<<63 + 1, ^uint64(0), ^uint64(0) - 1, 614889782588491410}
	source := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		numbers = append(numbers, []uint64{source.Uint64(), source.Uint64(), source.Uint64(), source.Uint64()})
		divisors = append(divisors, source.Uint64()>>source.IntN(63)|1)
	}
	for _, x := range numbers {
		value := new(big.Int)
		for i := len(x) - 1; i >= 0; i-- {
			value.Or(value.Lsh(value, 64), new(big.Int).SetUint64(x[i]))
		}
		for i, m := range divisors {
			r := remainders(x, &[lanes]uint64{m, divisors[0], m, divisors[len(divisors)-1-i]})
			want := new(big.Int).Mod(value, new(big.Int).SetUint64(m)).Uint64()
			if r[0]%m != want || r[2] != r[0] || remainder(x, m) != want {
				t.Fatalf("%x mod %d: %d, want %d", x, m, r[0]%m, want)
			}
		}
	}
}
