package libtpms

import "github.com/ashlar-cloud/ashlar/tpm2"

// Orderly is what TPM2_Shutdown saves (ORDERLY_DATA). Of the generator's state,
// which is another in every TPM, nothing is kept: without it libtpms makes a new
// one.
type Orderly struct {
	Clock     uint64 // milliseconds
	ClockSafe bool
	// When the timers of the lockout began, and what Time was at Shutdown, in
	// milliseconds of Time; the timers may be before 0.
	SelfHealTimer, LockoutTimer int64
	Time                        uint64
}

var (
	orderlyMark = mark{"ORDERLY_DATA", 0x56657887, 2, 2, 0}
	drbgMark    = mark{"DRBG_STATE", 0x6fe83ea1, 2, 2, 0}
)

func (o *Orderly) walk(w *walker) {
	w.section(orderlyMark, 2, func(uint16) {
		w.U64(&o.Clock)
		w.Bool(&o.ClockSafe)
		walkDRBG(w)
		w.block(true, func() {
			w.i64(&o.SelfHealTimer)
			w.i64(&o.LockoutTimer)
			w.U64(&o.Time)
		})
		w.future()
	})
}

func (w *walker) i64(n *int64) {
	u := uint64(*n)
	w.U64(&u)
	*n = int64(u)
}

// Sizes of a generator's seed in bytes, and of its last value in words.
const (
	drbgSeed = 48
	drbgLast = 4
)

func walkDRBG(w *walker) {
	w.section(drbgMark, 2, func(uint16) {
		var counter uint64
		var magic, word uint32
		w.U64(&counter)
		w.U32(&magic)
		w.fixed(make([]byte, drbgSeed), "bytes in its seed")
		w.array(drbgLast, "words in its last value")
		for range drbgLast {
			w.U32(&word)
		}
		w.future()
	})
}

// Sessions that libtpms has (MAX_ACTIVE_SESSIONS, MAX_LOADED_SESSIONS), and
// objects (MAX_LOADED_OBJECTS).
const (
	ActiveSessions = 64
	LoadedSessions = 3
	LoadedObjects  = 3
)

// Reset is what lasts until a TPM Reset (STATE_RESET_DATA).
type Reset struct {
	NullProof, NullSeed tpm2.Digest
	NullLevel           uint8
	ClearCount          uint32 // TPM Restarts since
	ObjectContextID     uint64 // of the last object's context saved
	// Contexts tells of every session's number: 0 for none, the slot of a loaded
	// session counted from 1, or else the low bits of a saved context's id, those
	// in ContextMask.
	Contexts       [ActiveSessions]uint16
	ContextMask    uint16
	ContextCounter uint64 // id of the next saved context
	AuditDigest    tpm2.Digest
	RestartCount   uint32
	PCRCounter     uint32
	// CommitCounter, CommitNonce and CommitArray are those of TPM2_Commit.
	CommitCounter uint64
	CommitNonce   tpm2.Digest
	CommitArray   [CommitBytes]byte
}

// CommitBytes is the size of CommitArray in bytes.
const CommitBytes = 16

var resetMark = mark{"STATE_RESET_DATA", 0x01102332, 2, 4, 3}

func (r *Reset) walk(w *walker) {
	w.section(resetMark, 4, func(version uint16) {
		r.NullProof.Walk(&w.Codec)
		r.NullSeed.Walk(&w.Codec)
		w.U32(&r.ClearCount)
		w.U64(&r.ObjectContextID)
		r.walkContexts(w, version)
		w.U64(&r.ContextCounter)
		r.AuditDigest.Walk(&w.Codec)
		w.U32(&r.RestartCount)
		w.U32(&r.PCRCounter)
		w.block(true, func() {
			w.U64(&r.CommitCounter)
			r.CommitNonce.Walk(&w.Codec)
			w.fixed(r.CommitArray[:], "bytes of commits")
		})
		if version < 3 {
			w.future()
			return
		}
		w.block(true, func() {
			walkLevel(w, &r.NullLevel)
			w.future()
		})
	})
}

// LongMask is the ContextMask of libtpms 0.9 and later, and shortMask that of
// before.
const (
	LongMask  = 0xFFFF
	shortMask = 0x00FF
)

// ContextCounter is an id of the next saved context, at least next, whose low bits
// are not those that tell of a free number or a loaded session.
func ContextCounter(next uint64) uint64 {
	if next&LongMask <= LoadedSessions {
		next += LoadedSessions + 1
	}
	return next
}

func (r *Reset) walkContexts(w *walker, version uint16) {
	w.array(ActiveSessions, "sessions")
	for i := range r.Contexts {
		if version >= 4 {
			w.U16(&r.Contexts[i])
			continue
		}
		short := uint8(r.Contexts[i])
		w.U8(&short)
		r.Contexts[i] = uint16(short)
	}
	if version < 4 {
		r.ContextMask = shortMask
		return
	}
	w.U16(&r.ContextMask)
	w.require(r.ContextMask == shortMask || r.ContextMask == LongMask, "its mask of sessions is none that there is")
}

// Clear is what lasts until a TPM Restart (STATE_CLEAR_DATA).
type Clear struct {
	OwnerEnabled, EndorsementEnabled, PlatformNVEnabled bool
	Platform                                            Auth
	PCRs                                                []PCRBank // those that are saved, PCR 0 to 15
	PCRAuth                                             tpm2.Digest
}

// PCRBank is PCRs of one bank: their digests one after the other.
type PCRBank struct {
	Alg    tpm2.AlgID
	Values []byte
}

// SavedPCRs is how many PCRs Shutdown(STATE) saves, the first ones.
const SavedPCRs = 16

var (
	clearMark   = mark{"STATE_CLEAR_DATA", 0x98897667, 2, 2, 0}
	pcrSaveMark = mark{"PCR_SAVE", 0x7372eabc, 2, 2, 0}
	pcrMark     = mark{"PCR", 0xe95f0387, 2, 2, 0}
	pcrAuthMark = mark{"PCR_AUTHVALUE", 0x6be82eaf, 2, 2, 0}
)

func (s *Clear) walk(w *walker) {
	w.section(clearMark, 2, func(uint16) {
		w.flags(&s.OwnerEnabled, &s.EndorsementEnabled, &s.PlatformNVEnabled)
		w.U16((*uint16)(&s.Platform.Alg))
		s.Platform.Policy.Walk(&w.Codec)
		s.Platform.Value.Walk(&w.Codec)
		w.section(pcrSaveMark, 2, func(uint16) {
			w.array(SavedPCRs, "PCRs")
			walkBanks(w, &s.PCRs, SavedPCRs)
		})
		w.section(pcrAuthMark, 2, func(uint16) {
			w.array(1, "groups of PCRs")
			s.PCRAuth.Walk(&w.Codec)
			w.future()
		})
		w.future()
	})
}

// walkBanks visits n PCRs in each of the banks, up to a null algorithm.
func walkBanks(w *walker, list *[]PCRBank, n int) {
	for i := 0; w.ok(); i++ {
		end := PCRBank{Alg: tpm2.AlgNull}
		b := &end
		if i < len(*list) {
			b = &(*list)[i]
		}
		w.U16((*uint16)(&b.Alg))
		if b.Alg == tpm2.AlgNull {
			break
		}
		size := b.Alg.DigestSize()
		w.require(size != 0, "there is a bank of no hash algorithm")
		if w.Decoding() {
			b.Values = make([]byte, n*size)
			*list = append(*list, *b)
			w.require(len(*list) <= maxBanks, "there are too many banks")
		}
		w.fixed(b.Values, "bytes in a bank")
	}
	w.future()
}

// maxBanks bounds the banks: libtpms has four.
const maxBanks = 8
