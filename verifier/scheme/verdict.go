package scheme

// Verdict is the outcome of an appraisal in one word.
type Verdict string

// The verdicts. Only Valid means that the Evidence holds.
const (
	Valid   Verdict = "valid"   // all that was examined holds, and the essential was examined
	Invalid Verdict = "invalid" // something fails
	Partial Verdict = "partial" // nothing fails that can be judged, but something essential cannot be judged
)

// Reason is the class of what went wrong, for machines.
type Reason string

// The classes that kinds share.
const (
	ReasonMalformed   Reason = "malformed"
	ReasonSignature   Reason = "bad-signature"
	ReasonNonce       Reason = "nonce"
	ReasonNoKey       Reason = "no-key"
	ReasonWrongKey    Reason = "wrong-key"
	ReasonCertificate Reason = "certificate"
	ReasonExpired     Reason = "expired"
	ReasonRevoked     Reason = "revoked"
	ReasonAlgorithm   Reason = "unknown-algorithm"
	ReasonCoverage    Reason = "not-covered"
	// ReasonDebug goes with Valid: the guest can be read by its host.
	ReasonDebug Reason = "debug"
	// ReasonLifecycle goes with Valid: the device is not in its secured state.
	ReasonLifecycle Reason = "life-cycle"
	// ReasonBinding: two parts of the Evidence do not belong together.
	ReasonBinding Reason = "binding"
	// ReasonMigration goes with Valid: something that was not appraised can move
	// the guest elsewhere.
	ReasonMigration Reason = "migration-agent"
	// ReasonReference: a value is none of the reference values.
	ReasonReference Reason = "not-in-reference"
)

// The classes of a TEE's trusted computing base.
const (
	ReasonTCBOutOfDate Reason = "out-of-date-tcb"
	ReasonTCBNoMatch   Reason = "no-matching-tcb-level"
)

// The classes of TPM Evidence and of logs.
const (
	ReasonNoQuote       Reason = "no-quote"
	ReasonKeyAttributes Reason = "key-attributes"
	ReasonPCRDigest     Reason = "pcr-digest"
	ReasonPCRMissing    Reason = "pcr-values-missing"
	ReasonActivation    Reason = "activation"
	ReasonLog           Reason = "log-does-not-replay"
	ReasonIMA           Reason = "ima-does-not-match"
	ReasonIMAHash       Reason = "template-hash"
	ReasonEvent         Reason = "event-not-in-reference"
	ReasonFile          Reason = "file-not-in-reference"
)
