package sevsnp

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/verifier/collateral"
)

// product is a line of processors that share roots and the meaning of a TCB.
type product struct {
	// line is its name at AMD's KDS and in the names of certificates.
	line string
	// root is the SHA-256 of the ARK's certificate.
	root string
	// turin says that the TCB and the chip's identity are as from Turin on.
	turin bool
}

// products are the lines known here; their roots are those that AMD's KDS
// publishes as cert_chain (AMD 57230, section 4.2).
var products = []product{
	{line: "Milan", root: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"},
	{line: "Genoa", root: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"},
	{line: "Turin", root: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", turin: true},
}

func productOf(line string) (product, bool) {
	for _, p := range products {
		if p.line == line {
			return p, true
		}
	}
	return product{}, false
}

// product tells the line of the processor by its CPUID, from version 3 on. ok is
// false where the report does not say, or names a processor not known here.
func (r *Report) product() (p product, ok bool) {
	switch family, model := r.Family, r.Model; {
	case r.Version < 3:
		return product{}, false
	case family == 0x19 && model <= 0x0f:
		return productOf("Milan")
	case family == 0x19 && (model>>4 == 1 || model>>4 == 0xa): // Genoa; Bergamo and Siena
		return productOf("Genoa")
	case family == 0x1a && model <= 0x1f:
		return productOf("Turin")
	}
	return product{}, false
}

// productName names the processor for people.
func (r *Report) productName() string {
	p, ok := r.product()
	switch {
	case r.Version < 3:
		return ""
	case !ok:
		return fmt.Sprintf("unknown (family %02Xh, model %02Xh)", r.Family, r.Model)
	case p.line == "Genoa" && r.Model>>4 == 0xa:
		return fmt.Sprintf("Genoa (model %02Xh)", r.Model)
	}
	return p.line
}

// levels are a TCB's parts by name.
type level struct {
	name  string
	value uint8
}

func (t TCB) levels(turin bool) []level {
	if turin {
		return []level{{"fmc", t[0]}, {"bootloader", t[1]}, {"tee", t[2]}, {"snp", t[3]}, {"microcode", t[7]}}
	}
	return []level{{"bootloader", t[0]}, {"tee", t[1]}, {"snp", t[6]}, {"microcode", t[7]}}
}

// most tells whether a TCB is at most another, in each part; if not, which part
// is above.
func (t TCB) most(u TCB, turin bool) (string, bool) {
	theirs := u.levels(turin)
	for i, l := range t.levels(turin) {
		if l.value > theirs[i].value {
			return fmt.Sprintf("%s %d, and not %d at most", l.name, l.value, theirs[i].value), false
		}
	}
	return "", true
}

// spls are a TCB as AMD's KDS is asked for it.
func (t TCB) spls(turin bool) collateral.SPLs {
	if turin {
		return collateral.SPLs{FMC: &t[0], BootLoader: t[1], TEE: t[2], SNP: t[3], Microcode: t[7]}
	}
	return collateral.SPLs{BootLoader: t[0], TEE: t[1], SNP: t[6], Microcode: t[7]}
}

// hwid is the chip's identity as AMD's KDS is asked for it.
func (r *Report) hwid(turin bool) []byte {
	if turin {
		return r.ChipID[:8]
	}
	return r.ChipID[:]
}
