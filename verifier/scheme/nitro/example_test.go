package nitro_test

import (
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/nitro"
)

// What is no attestation document is refused with a reason, not an error.
func ExampleAppraise() {
	r := nitro.Appraise(&scheme.Input{
		Files: []scheme.File{{Name: "document.bin", Data: []byte{0xd2, 0x84}}},
		Time:  time.Now(),
	})
	fmt.Println(r.Verdict, r.Reason)
	fmt.Println(r.Why()[0])
	// Output:
	// invalid malformed
	// document.bin: it is no COSE message: unexpected EOF
}
