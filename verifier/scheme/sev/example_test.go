package sev_test

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/sev"
)

// ExampleAppraise has a launch measurement, and lacks what it covers.
func ExampleAppraise() {
	res := sev.Appraise(&scheme.Input{Files: []scheme.File{{Name: "measurement", Data: make([]byte, 48)}}})
	fmt.Println(res.Verdict, res.Reason)
	fmt.Println(res.Why()[0])
	// Output:
	// partial not-covered
	// it covers the firmware's version and the policy, which are not there: give the answer of query-sev, or what virsh domlaunchsecinfo prints
}
