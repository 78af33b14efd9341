package psa

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/fxamacker/cbor/v2"

	"github.com/ashlar-cloud/ashlar/verifier/internal/cose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Profiles of claims.
const (
	ProfileIoT1        = "PSA_IOT_PROFILE_1"
	Profile2           = "http://arm.com/psa/2.0.0"
	ProfileRFC9783     = "tag:psacertified.org,2023:psa#tfm"
	ProfileCCALegacy   = "http://arm.com/CCA-SSD/1.0.0"
	ProfileCCAPlatform = "tag:arm.com,2023:cca_platform#1.0.0"
)

// Limits of claims, sizes in bytes.
const (
	MaxToken      = 64 << 10
	maxComponents = 64
	maxText       = 1024
	maxConfig     = 4096
)

// Claims are those of a PSA token or of a CCA platform token.
type Claims struct {
	Profile  string
	Nonce    []byte // 32, 48 or 64 bytes
	Instance []byte // UEID, 33 bytes, the first is 1
	// Implementation names the immutable root of trust, 32 bytes.
	Implementation []byte
	BootSeed       []byte // 8 to 32 bytes; nil if not stated
	Config         []byte // CCA: the platform's configuration
	ClientID       *int32 // PSA: of the partition that asked; negative is not secure
	Lifecycle      uint16
	Components     []Component
	Certification  string // reference of the certificate of the hardware
	Service        string // where a verifier is to be found
	HashAlgorithm  string // CCA: of measurements
	// Keys are the numbers of all claims, ascending.
	Keys []int64
	// Unknown are those that this package does not know.
	Unknown []int64
}

// Component is one software component.
type Component struct {
	Type        string `cbor:"1,keyasint,omitempty"`
	Measurement []byte `cbor:"2,keyasint"`
	Version     string `cbor:"4,keyasint,omitempty"`
	Signer      []byte `cbor:"5,keyasint,omitempty"`
	Description string `cbor:"6,keyasint,omitempty"` // of the algorithm
}

// numbers are the keys of the claims in one profile; zero is one that it lacks.
type numbers struct {
	profile, nonce, instance, implementation, seed, config, client, lifecycle,
	components, noComponents, certification, service, hash int64
}

func numbersOf(profile string) (numbers, error) {
	n := numbers{profile: 265, nonce: 10, instance: 256, implementation: 2396, lifecycle: 2395, components: 2399, service: 2400}
	switch profile {
	case ProfileIoT1:
		return numbers{profile: -75000, client: -75001, lifecycle: -75002, implementation: -75003, seed: -75004, certification: -75005,
			components: -75006, noComponents: -75007, nonce: -75008, instance: -75009, service: -75010}, nil
	case Profile2, ProfileRFC9783:
		n.client, n.seed, n.certification = 2394, 2397, 2398
		return n, nil
	case ProfileCCALegacy, ProfileCCAPlatform:
		n.config, n.hash = 2401, 2402
		return n, nil
	}
	return n, fmt.Errorf("the token's profile %.80q is not one that is known here", profile)
}

// ParseClaims decodes claims strictly, as their profile demands.
func ParseClaims(b []byte) (*Claims, error) {
	var raw map[int64]cbor.RawMessage
	if err := cose.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("the token's claims are no CBOR map with numbers as keys: %w", err)
	}
	c := &Claims{Profile: ProfileIoT1, Keys: slices.Sorted(maps.Keys(raw))}
	for _, key := range []int64{265, -75000} {
		if v, ok := raw[key]; ok {
			if err := cose.Unmarshal(v, &c.Profile); err != nil {
				return nil, fmt.Errorf("the token's profile is no text: %w", err)
			}
		}
	}
	n, err := numbersOf(c.Profile)
	if err != nil {
		return nil, err
	}
	if err := c.decode(raw, n); err != nil {
		return nil, err
	}
	return c, c.check(raw, n)
}

func (c *Claims) decode(raw map[int64]cbor.RawMessage, n numbers) error {
	var none uint64
	into := map[int64]any{
		n.profile: &c.Profile, n.nonce: &c.Nonce, n.instance: &c.Instance, n.implementation: &c.Implementation, n.seed: &c.BootSeed,
		n.config: &c.Config, n.client: &c.ClientID, n.lifecycle: &c.Lifecycle, n.components: &c.Components, n.noComponents: &none,
		n.certification: &c.Certification, n.service: &c.Service, n.hash: &c.HashAlgorithm,
	}
	delete(into, 0)
	for _, key := range c.Keys {
		target, known := into[key]
		if !known {
			c.Unknown = append(c.Unknown, key)
			continue
		}
		if err := cose.Unmarshal(raw[key], target); err != nil {
			return fmt.Errorf("the token's claim %d is malformed: %w", key, err)
		}
	}
	return nil
}

// check holds the claims to RFC 9783, 4, and to the CCA profile (RMM
// specification, A7.2.3).
func (c *Claims) check(raw map[int64]cbor.RawMessage, n numbers) error {
	needed := []int64{n.nonce, n.instance, n.implementation, n.lifecycle}
	if n.client != 0 {
		needed = append(needed, n.client)
	}
	if n.hash != 0 {
		needed = append(needed, n.config, n.hash)
	}
	if _, none := raw[n.noComponents]; n.noComponents == 0 || !none {
		needed = append(needed, n.components)
	}
	for _, key := range needed {
		if _, there := raw[key]; !there {
			return fmt.Errorf("the token lacks the claim %d, which its profile demands", key)
		}
	}
	if s := len(c.Nonce); s != 32 && s != 48 && s != 64 {
		return fmt.Errorf("the token's nonce has %d bytes: 32, 48 or 64 are allowed", s)
	}
	if len(c.Instance) != 33 || c.Instance[0] != 1 {
		return fmt.Errorf("the token's instance ID is not 33 bytes with a 1 at the beginning")
	}
	if len(c.Implementation) != 32 {
		return fmt.Errorf("the token's implementation ID has %d bytes: 32 are expected", len(c.Implementation))
	}
	if c.BootSeed != nil && (len(c.BootSeed) < 8 || len(c.BootSeed) > 32) {
		return fmt.Errorf("the token's boot seed has %d bytes: 8 to 32 are allowed", len(c.BootSeed))
	}
	if len(c.Config) > maxConfig || max(len(c.Certification), len(c.Service), len(c.HashAlgorithm)) > maxText {
		return fmt.Errorf("the token has a configuration of more than %d bytes or a text of more than %d", maxConfig, maxText)
	}
	return c.checkComponents()
}

func (c *Claims) checkComponents() error {
	if len(c.Components) > maxComponents {
		return fmt.Errorf("the token has %d software components: at most %d are read", len(c.Components), maxComponents)
	}
	for i, part := range c.Components {
		if s := len(part.Measurement); s != 32 && s != 48 && s != 64 {
			return fmt.Errorf("the token's software component %d has a measurement of %d bytes: 32, 48 or 64 are allowed", i+1, s)
		}
		if s := len(part.Signer); s != 0 && s != 32 && s != 48 && s != 64 {
			return fmt.Errorf("the token's software component %d has a signer ID of %d bytes: 32, 48 or 64 are allowed", i+1, s)
		}
		if max(len(part.Type), len(part.Version), len(part.Description)) > maxText {
			return fmt.Errorf("the token's software component %d has a text of more than %d bytes", i+1, maxText)
		}
	}
	return nil
}

// Facts states the claims for a Result: the measurements of components are the
// entries of the fact "components", their signers those of "signers", both by type,
// or by number where there is no type or it comes twice.
func (c *Claims) Facts() scheme.Facts {
	measured, signers := map[string]string{}, map[string]string{}
	for i, part := range c.Components {
		name := part.Type
		if _, twice := measured[name]; twice || name == "" {
			name = strconv.Itoa(i + 1)
		}
		measured[name], signers[name] = hex.EncodeToString(part.Measurement), hex.EncodeToString(part.Signer)
	}
	f := scheme.Facts{"profile": c.Profile, "implementation_id": hex.EncodeToString(c.Implementation),
		"instance_id": hex.EncodeToString(c.Instance), "lifecycle": c.Lifecycle, "lifecycle_state": c.State().String(),
		"components": measured, "signers": signers}
	if c.ClientID != nil {
		f["client_id"] = int64(*c.ClientID)
	}
	for name, b := range map[string][]byte{"boot_seed": c.BootSeed, "config": c.Config} {
		if b != nil {
			f[name] = hex.EncodeToString(b)
		}
	}
	for name, s := range map[string]string{"certification_reference": c.Certification, "service_indicator": c.Service, "hash_algorithm": c.HashAlgorithm} {
		if s != "" {
			f[name] = s
		}
	}
	return f
}

// State is a state of the life cycle of a device (RFC 9783, 4.3.1).
type State uint8

// The states.
const (
	StateUnknown State = iota
	StateAssembly
	StateProvisioning
	StateSecured
	StateDebug            // what is not of the root of trust can be debugged
	StateRecoverableDebug // the root of trust can be debugged
	StateDecommissioned
	StateInvalid
)

// State gives the state that the life cycle's number is in.
func (c *Claims) State() State {
	if s := State(c.Lifecycle >> 12); s < StateInvalid && c.Lifecycle>>8&0xf == 0 {
		return s
	}
	return StateInvalid
}

// String gives the state's name.
func (s State) String() string {
	names := [...]string{"unknown", "assembly-and-test", "rot-provisioning", "secured", "non-rot-debug", "recoverable-rot-debug", "decommissioned"}
	if int(s) < len(names) {
		return names[s]
	}
	return "invalid"
}
