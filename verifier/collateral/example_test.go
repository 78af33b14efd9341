package collateral

import (
	"fmt"
	"os"
)

// ExampleCache_Get keeps what AMD publishes for a product line.
func ExampleCache_Get() {
	dir, err := os.MkdirTemp("", "collateral")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cache, err := Open(dir, Options{Offline: true}) // without Offline it fetches what it lacks
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = cache.Get(AMDCRL("Milan", VCEK))
	fmt.Println(err)
	// Output: AMD's revocation list for a VCEK of Milan is missing: the cache does not have it, and may not fetch it
}
