package sevsnp_test

import (
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/sevsnp"
)

// ExampleAppraise says why a report that is cut is refused.
func ExampleAppraise() {
	res := sevsnp.Appraise(&scheme.Input{
		Files:  []scheme.File{{Name: "report.bin", Data: make([]byte, sevsnp.ReportSize)}},
		Chains: scheme.NewChains(1024), // kept from one appraisal to the next
		Time:   time.Now(),
	})
	fmt.Println(res.Verdict, res.Reason)
	fmt.Println(res.Why()[0])
	// Output:
	// invalid malformed
	// the report is of version 0: versions 2 to 5 are known here
}
