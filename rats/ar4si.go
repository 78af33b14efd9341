package rats

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Tier is a trustworthiness tier (AR4SI, 3.2): the verdict in one word.
type Tier int8

// The four tiers, with their numbers in AR4SI.
const (
	TierNone            Tier = 0
	TierAffirming       Tier = 2
	TierWarning         Tier = 32
	TierContraindicated Tier = 96
)

// String gives the tier's name as EAR writes it.
func (t Tier) String() string {
	switch t {
	case TierNone:
		return "none"
	case TierAffirming:
		return "affirming"
	case TierWarning:
		return "warning"
	case TierContraindicated:
		return "contraindicated"
	}
	return "tier " + strconv.Itoa(int(t))
}

// rank orders tiers for the worst of several: a part about which nothing is
// known keeps the whole from affirming.
func (t Tier) rank() int {
	switch t {
	case TierAffirming:
		return 0
	case TierNone:
		return 1
	case TierWarning:
		return 2
	}
	return 3
}

func (t Tier) worseThan(u Tier) bool { return t.rank() > u.rank() }

// Worse gives the worse of two tiers, in the order affirming, none, warning,
// contraindicated.
func Worse(a, b Tier) Tier {
	if a.worseThan(b) {
		return a
	}
	return b
}

// MarshalJSON writes the tier's name; it fails for a number that is no tier.
func (t Tier) MarshalJSON() ([]byte, error) {
	switch t {
	case TierNone, TierAffirming, TierWarning, TierContraindicated:
		return json.Marshal(t.String())
	}
	return nil, fmt.Errorf("%d is not a trust tier", int(t))
}

// UnmarshalJSON reads the tier's name, or its number as some Verifiers write it.
func (t *Tier) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	for _, k := range []Tier{TierNone, TierAffirming, TierWarning, TierContraindicated} {
		if s == k.String() || s == strconv.Itoa(int(k)) {
			*t = k
			return nil
		}
	}
	return fmt.Errorf("%s is not a trust tier: none, affirming, warning or contraindicated is expected", clip(string(b), 40))
}

// Value is one trustworthiness claim (AR4SI, 2.3.1): -128 to 127.
type Value int8

// Values that this project writes (AR4SI, 2.3.4). The first group may stand in
// any category.
const (
	NoClaim       Value = 0
	CryptoFailed  Value = 99 // cryptographic validation of the Evidence failed
	UnexpectedEvi Value = 1  // Evidence that the Verifier could not read as expected

	InstanceKnown   Value = 2  // instance-identity: recognized, uncompromised
	InstanceUnknown Value = 97 // instance-identity: not recognized

	ConfigApproved    Value = 2  // configuration: known and approved
	ConfigUnsupported Value = 96 // configuration: contraindicated by policy

	ExecutablesApproved     Value = 2  // executables: all approved, at boot and after
	ExecutablesBootApproved Value = 3  // executables: all approved at boot
	ExecutablesContra       Value = 96 // executables: some that policy does not allow

	HardwareGenuine Value = 2  // hardware: genuine, certified by its maker
	HardwareUnsafe  Value = 96 // hardware: genuine, with known weaknesses that policy does not allow
	HardwareUnknown Value = 97 // hardware: not recognized, certificate chain does not hold

	MemoryEncrypted Value = 2  // runtime-opaque: encrypted, not to be read by the host
	MemoryVisible   Value = 96 // runtime-opaque: to be read from outside
)

// Tier gives the tier that a value falls into (AR4SI, 2.3.2).
func (v Value) Tier() Tier {
	switch {
	case v >= -1 && v <= 1:
		return TierNone
	case v >= 2 && v <= 31, v >= -32 && v <= -2:
		return TierAffirming
	case v >= 32 && v <= 95, v >= -96 && v <= -33:
		return TierWarning
	}
	return TierContraindicated
}

// Category is a place in the trustworthiness vector (AR4SI, 2.3.3).
type Category string

// The eight categories.
const (
	InstanceIdentity Category = "instance-identity"
	Configuration    Category = "configuration"
	Executables      Category = "executables"
	FileSystem       Category = "file-system"
	Hardware         Category = "hardware"
	RuntimeOpaque    Category = "runtime-opaque"
	StorageOpaque    Category = "storage-opaque"
	SourcedData      Category = "sourced-data"
)

func (c Category) known() bool {
	switch c {
	case InstanceIdentity, Configuration, Executables, FileSystem,
		Hardware, RuntimeOpaque, StorageOpaque, SourcedData:
		return true
	}
	return false
}

// Vector is a trustworthiness vector (AR4SI, 2.3.5); categories that are absent
// are not claimed.
type Vector map[Category]Value

// Tier is the worst tier among the values that claim something; TierNone for a
// vector that claims nothing.
func (v Vector) Tier() Tier {
	worst, any := TierNone, false
	for _, x := range v {
		if t := x.Tier(); t != TierNone && (!any || t.worseThan(worst)) {
			worst, any = t, true
		}
	}
	return worst
}

// UnmarshalJSON refuses categories that AR4SI does not have.
func (v *Vector) UnmarshalJSON(b []byte) error {
	var m map[Category]Value
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("trustworthiness vector: %w", err)
	}
	for c := range m {
		if !c.known() {
			return fmt.Errorf("trustworthiness vector has the unknown category %q", clip(string(c), 40))
		}
	}
	*v = m
	return nil
}
