package pcr

import "github.com/ashlar-cloud/ashlar/tpm2"

// attribute is what the PC Client platform says of a PCR. Localities are bits,
// 1 for locality 0.
type attribute struct {
	save        bool  // Shutdown(STATE) saves it
	noIncrement bool  // its changes do not count
	reset       uint8 // localities that may reset it
	extend      uint8 // localities that may extend it
}

// locality4 may reset exactly the PCRs that a D-RTM sets to zero; it does so by
// its hash sequence, not by TPM2_PCR_Reset.
const locality4 = 1 << 4

func (a attribute) drtm() bool { return a.reset&locality4 != 0 }

var attributes = func() (a [tpm2.PCRCount]attribute) {
	for n := range 16 { // the static root of trust for measurement
		a[n] = attribute{save: true, extend: 0x1F}
	}
	a[16] = attribute{noIncrement: true, reset: 0x0F, extend: 0x1F} // debug
	a[17] = attribute{reset: 0x10, extend: 0x1C}                    // D-RTM
	a[18] = attribute{reset: 0x10, extend: 0x1C}
	a[19] = attribute{reset: 0x10, extend: 0x0C}
	a[20] = attribute{reset: 0x14, extend: 0x0E}
	a[21] = attribute{noIncrement: true, reset: 0x14, extend: 0x04} // the dynamic OS
	a[22] = attribute{noIncrement: true, reset: 0x14, extend: 0x04}
	a[23] = attribute{noIncrement: true, reset: 0x0F, extend: 0x1F} // applications
	return a
}()

// ExtendAllowed reports whether a locality may extend PCR n.
func ExtendAllowed(n int, locality uint8) bool {
	return attributes[n].extend&(1<<locality) != 0
}

// ResetAllowed reports whether a locality may reset PCR n by TPM2_PCR_Reset:
// locality 4 may reset none.
func ResetAllowed(n int, locality uint8) bool {
	return attributes[n].reset&^locality4&(1<<locality) != 0
}

// Grouped reports whether PCR n is of the one group whose changes have an
// authorization value and a policy: those of the dynamic OS.
func Grouped(n int) bool { return n >= 20 && n <= 22 }

// Saved reports whether Shutdown(STATE) saves PCR n.
func Saved(n int) bool { return attributes[n].save }

// LastProperty is the last property of PCRs there is.
const LastProperty = tpm2.PTPCRAuth

// Property gives the PCRs that have a property, and false where there is no
// such property.
func Property(p tpm2.PTPCR) (tpm2.PCRSelect, bool) {
	s := tpm2.PCRSelect{Size: tpm2.PCRSelectSize}
	has := propertyOf(p)
	if has == nil {
		return s, false
	}
	for n := range tpm2.PCRCount {
		if has(n, attributes[n]) {
			s.Set(n)
		}
	}
	return s, true
}

func propertyOf(p tpm2.PTPCR) func(int, attribute) bool {
	switch p {
	case tpm2.PTPCRSave:
		return func(_ int, a attribute) bool { return a.save }
	case tpm2.PTPCRNoIncr:
		return func(_ int, a attribute) bool { return a.noIncrement }
	case tpm2.PTPCRDRTMReset:
		return func(_ int, a attribute) bool { return a.drtm() }
	case tpm2.PTPCRPolicy, tpm2.PTPCRAuth:
		return func(n int, _ attribute) bool { return Grouped(n) }
	}
	// Extend and reset take turns, locality after locality from 0 to 4.
	if p < tpm2.PTPCRExtendL0 || p > tpm2.PTPCRExtendL0+9 {
		return nil
	}
	locality := uint8(1) << ((p - tpm2.PTPCRExtendL0) / 2)
	if (p-tpm2.PTPCRExtendL0)%2 == 0 {
		return func(_ int, a attribute) bool { return a.extend&locality != 0 }
	}
	return func(_ int, a attribute) bool { return a.reset&locality != 0 }
}
