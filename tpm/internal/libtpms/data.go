package libtpms

import "github.com/ashlar-cloud/ashlar/tpm2"

// Auth is what authorizes a hierarchy or the lockout.
type Auth struct {
	Alg    tpm2.AlgID // AlgNull without a policy
	Policy tpm2.Digest
	Value  tpm2.Digest
}

// Data is what outlives power besides Indices and objects (PERSISTENT_DATA).
type Data struct {
	DisableClear                                         bool
	Owner, Endorsement, Lockout                          Auth
	EndorsementSeed, OwnerSeed, PlatformSeed             tpm2.Digest
	PlatformProof, OwnerProof, EndorsementProof          tpm2.Digest
	EndorsementLevel, OwnerLevel, PlatformLevel          uint8 // seed-compatibility levels, 0 or 1
	TotalResetCount                                      uint64
	ResetCount                                           uint32
	PCRPolicyAlg                                         tpm2.AlgID
	PCRPolicy                                            tpm2.Digest
	PCRNext                                              tpm2.PCRSelectionList // from the next power on
	PCRActive                                            tpm2.PCRSelectionList // since the last one
	PhysicalPresence                                     []tpm2.CC             // commands that need it
	FailedTries, MaxTries, RecoveryTime, LockoutRecovery uint32
	LockoutAuthEnabled                                   bool
	OrderlyState                                         uint16
	AuditCommands                                        []tpm2.CC
	AuditAlg                                             tpm2.AlgID
	AuditCounter                                         uint64
	AlgorithmSet                                         uint32
	Firmware1, Firmware2                                 uint32
	TimeEpoch                                            uint32
}

// Values and flags of OrderlyState.
const (
	StateClear     = 0      // after TPM2_Shutdown(CLEAR)
	StateSaved     = 1      // after TPM2_Shutdown(STATE)
	StateNone      = 0xFFFF // while the TPM runs, or after a power loss
	StateProtected = 0xFFFE // the same, and a protected authorization was tried
	// FlagHCRTM and FlagLocality3 tell how the boot began, in a saved state.
	FlagHCRTM     = 0x8000
	FlagLocality3 = 0x4000
)

// Saved reports whether there is what Shutdown(STATE) saves.
func (d *Data) Saved() bool { return d.OrderlyState&^(FlagHCRTM|FlagLocality3) == StateSaved }

var (
	dataMark      = mark{"PERSISTENT_DATA", 0x12213443, 3, 5, 4}
	pcrPolicyMark = mark{"PCR_POLICY", 0x176be626, 2, 2, 0}
)

// lastLevel is the newest seed-compatibility level: that of revision 155.
const lastLevel = 1

func (d *Data) walk(w *walker) {
	w.section(dataMark, w.since(LevelLists, 4, 5), func(version uint16) {
		w.Bool(&d.DisableClear)
		d.walkAuths(w)
		for _, s := range []*tpm2.Digest{&d.EndorsementSeed, &d.OwnerSeed, &d.PlatformSeed,
			&d.PlatformProof, &d.OwnerProof, &d.EndorsementProof} {
			s.Walk(&w.Codec)
		}
		w.U64(&d.TotalResetCount)
		w.U32(&d.ResetCount)
		w.block(true, func() { d.walkPCRPolicy(w) })
		d.PCRNext.Walk(&w.Codec)
		walkCommands(w, &d.PhysicalPresence, version, commandBits)
		d.walkLockout(w)
		w.U16(&d.OrderlyState)
		walkCommands(w, &d.AuditCommands, version, commandBits+1)
		w.U16((*uint16)(&d.AuditAlg))
		w.U64(&d.AuditCounter)
		w.U32(&d.AlgorithmSet)
		w.U32(&d.Firmware1)
		w.U32(&d.Firmware2)
		walkEpoch(w, &d.TimeEpoch)
		w.block(true, func() {
			d.PCRActive.Walk(&w.Codec)
			d.walkLevels(w, version)
		})
	})
}

func (d *Data) walkAuths(w *walker) {
	list := []*Auth{&d.Owner, &d.Endorsement, &d.Lockout}
	for _, a := range list {
		w.U16((*uint16)(&a.Alg))
	}
	for _, a := range list {
		a.Policy.Walk(&w.Codec)
	}
	for _, a := range list {
		a.Value.Walk(&w.Codec)
	}
}

// walkPCRPolicy visits the policies of the groups of PCRs, of which there is one.
func (d *Data) walkPCRPolicy(w *walker) {
	w.section(pcrPolicyMark, 2, func(uint16) {
		w.array(1, "groups of PCRs")
		w.U16((*uint16)(&d.PCRPolicyAlg))
		d.PCRPolicy.Walk(&w.Codec)
		w.future()
	})
}

func (d *Data) walkLockout(w *walker) {
	for _, n := range []*uint32{&d.FailedTries, &d.MaxTries, &d.RecoveryTime, &d.LockoutRecovery} {
		w.U32(n)
	}
	w.Bool(&d.LockoutAuthEnabled)
}

// walkLevels visits the levels that the primary seeds were made at.
func (d *Data) walkLevels(w *walker, version uint16) {
	if version < 4 {
		w.future()
		return
	}
	w.block(true, func() {
		for _, l := range []*uint8{&d.EndorsementLevel, &d.OwnerLevel, &d.PlatformLevel} {
			walkLevel(w, l)
		}
		w.future()
	})
}

func walkLevel(w *walker, l *uint8) {
	w.U8(l)
	w.require(*l <= lastLevel, "a seed is of a level that is not known")
}

// walkEpoch visits the number of a clock's epoch, with its size.
func walkEpoch(w *walker, epoch *uint32) {
	size := uint8(4)
	w.U8(&size)
	w.require(size == 4, "an epoch has another size")
	w.U32(epoch)
}

// commandRange is commands with codes next to each other.
type commandRange struct{ first, last tpm2.CC }

// compressed are the commands of libtpms 0.9 in the order of the bits of its
// lists of commands; newer libtpms has a bit for every code.
var compressed = [...]commandRange{{0x11f, 0x122}, {0x124, 0x12e}, {0x130, 0x140}, {0x142, 0x159}, {0x15b, 0x15e},
	{0x160, 0x165}, {0x167, 0x174}, {0x176, 0x178}, {0x17a, 0x193}, {0x197, 0x197}}

const (
	// commandBits is the number of bits in a list of commands of libtpms 0.9.
	commandBits = 110
	// firstCommand is the command of the first bit, in both forms.
	firstCommand = 0x11f
	// listBytes is the size of a list in newer libtpms as it is written, and
	// maxListBytes as it is read.
	listBytes    = 17
	maxListBytes = 32
)

// CompressedCommands gives the commands that the lists of libtpms 0.9 can name,
// in ascending order.
func CompressedCommands() (list []tpm2.CC) {
	for _, r := range compressed {
		for cc := r.first; cc <= r.last; cc++ {
			list = append(list, cc)
		}
	}
	return list
}

// walkCommands visits a list of commands in ascending order: a u16 size in
// bytes, and bits. bits is their number in libtpms 0.9.
func walkCommands(w *walker, list *[]tpm2.CC, version uint16, bits int) {
	of := func(i int) tpm2.CC { return firstCommand + tpm2.CC(i) }
	size, most := listBytes, maxListBytes
	if version < 5 {
		codes := CompressedCommands()
		of = func(i int) tpm2.CC {
			if i < len(codes) {
				return codes[i]
			}
			return 0
		}
		size = (bits + 7) / 8
		most = size
	}
	b := make([]byte, size)
	if !w.Decoding() {
		next := 0
		for i := range 8 * size {
			if next < len(*list) && of(i) == (*list)[next] {
				b[i/8] |= 1 << (i % 8)
				next++
			}
		}
		w.require(next == len(*list), "a command is listed that this form cannot name")
	}
	w.Buffer(&b, most)
	if !w.Decoding() || !w.ok() {
		return
	}
	*list = nil
	for i := range 8 * len(b) {
		if b[i/8]&(1<<(i%8)) != 0 {
			*list = append(*list, of(i))
			w.require(of(i) != 0, "a list has a bit for no command")
		}
	}
}
