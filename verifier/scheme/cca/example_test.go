package cca_test

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/cca"
)

// What is no token is refused with a reason, not an error.
func ExampleAppraise() {
	r := cca.Appraise(&scheme.Input{Files: []scheme.File{{Name: "token.cbor", Data: []byte{0xa0}}}})
	fmt.Println(r.Verdict, r.Reason)
	fmt.Println(r.Why()[0])
	// Output:
	// invalid malformed
	// token.cbor: it is no CCA token: a CBOR map stands where another type is expected
}
