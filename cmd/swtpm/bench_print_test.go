package main

import (
	"fmt"
	"strings"
)

const benchHeader = `Medians of this swtpm and of Debian's, a few runs of the one and of the other in
turn, over the socket that QEMU uses; the ratio is swtpm/ours, above 1 = ours is
faster or smaller. First client and TPM share one processor, all threads of the
program on it, as on a host that is full. Then they have all processors, as on a
host with room. There a cheap command takes 40 us more where the scheduler wakes
the TPM on a processor that sleeps, which is chance: so one processor decides who
is slower. Both have the same seeds, and so the same primary keys. It takes two or
three minutes.
`

// result is one line of the table.
type result struct {
	name         string
	aim          string // a key of aims, "" for none
	runs         int
	ours, theirs float64
}

func (r *result) ratio() float64 { return r.theirs / r.ours }

// aims are what the ratios of a kind of command should reach.
var aims = []struct {
	kind  string
	ratio float64
	text  string
}{
	{"ECC", 5, "ECC commands 5 times faster"},
	{"RSA", 2, "RSA private-key commands 2 times faster"},
	{cheap, 1, "no other command slower"},
}

const cheap = "cheap"

// slack is how far the medians of two equal programs may be apart.
const slack = 0.05

// aimOf sorts a command, by its name in the table, under an aim. Saving and
// loading a context, loading an RSA key and RSA's public operations do no
// private-key arithmetic.
func aimOf(command string) string {
	verb, kind, _ := strings.Cut(command, " ")
	switch {
	case verb == "ContextSave" || verb == "ContextLoad":
	case kind == "ECC":
		return "ECC"
	case verb == "RSA_Decrypt", kind == "RSA" && verb != "Load" && verb != "VerifySignature":
		return "RSA"
	}
	return cheap
}

// printTable prints one processor's figures beside those of all.
func printTable(both [2][]result) {
	fmt.Printf("\n%-40s %31s   %31s\n", "", "one processor", "all processors")
	fmt.Printf("%-40s %10s %12s %7s   %10s %12s %7s\n", "", "ours", "swtpm", "ratio", "ours", "swtpm", "ratio")
	for i := range both[0] {
		a, b := &both[0][i], &both[1][i]
		fmt.Printf("%-40s %10.1f %12.1f %7.2f   %10.1f %12.1f %7.2f\n", a.name,
			a.ours, a.theirs, a.ratio(), b.ours, b.theirs, b.ratio())
	}
	fmt.Println()
}

// printAims prints which aims hold, and what misses them.
func printAims(both [2][]result) {
	fmt.Println("The aims, to within 5 percent:")
	for _, aim := range aims {
		var line []string
		places := []string{"one processor", "all processors"}
		if aim.kind == cheap {
			places = places[:1]
		}
		for i, place := range places {
			line = append(line, place+" "+verdict(both[i], aim.kind, aim.ratio))
		}
		fmt.Printf("%s: %s\n", aim.text, strings.Join(line, "; "))
	}
	fmt.Println()
}

// verdict says whether all results of a kind reach the ratio, and which do not.
func verdict(results []result, kind string, ratio float64) string {
	var missed []string
	n := 0
	for i := range results {
		if r := &results[i]; r.aim == kind {
			n++
			if r.ratio() < ratio*(1-slack) {
				missed = append(missed, fmt.Sprintf("%s %.2f", strings.TrimSuffix(r.name, " (us)"), r.ratio()))
			}
		}
	}
	if len(missed) == 0 {
		return fmt.Sprintf("yes, all %d", n)
	}
	return fmt.Sprintf("%d of %d, not %s", n-len(missed), n, strings.Join(missed, ", "))
}
