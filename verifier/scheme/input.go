package scheme

import (
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/collateral"
)

// Role says what a file of Evidence is.
type Role string

// RoleAuto is found out from the content, never from the name.
const RoleAuto Role = ""

// File is one file as given by a person, or one part of a message.
type File struct {
	Name string // for messages
	Role Role
	Data []byte
}

// Input is everything that is given to have something appraised.
type Input struct {
	// Files are the Evidence: of one Attester.
	Files []File
	// Endorsements are vouched for by the caller: certificates, keys, and the
	// collateral of a maker (revocation lists, TCB information).
	Endorsements []File
	// Key is the key that the Evidence must be signed with; nil for any.
	Key *File
	// References are compared with what the Evidence proves; nil for none.
	References *File
	// Challenge is the one that the Evidence must answer; nil for none.
	Challenge *identity.Challenge
	// Nonce is the one that the Evidence must be made under, if HasNonce.
	Nonce    rats.Nonce
	HasNonce bool
	// Chains remembers makers' chains that held; nil for none.
	Chains *Chains
	// Collateral has, or fetches, what the Evidence and the Endorsements lack of
	// what its maker publishes; nil for nothing.
	Collateral *collateral.Cache
	// Time is when the appraisal takes place, for certificates and collateral.
	Time time.Time
}
