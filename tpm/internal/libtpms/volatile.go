package libtpms

import (
	"bytes"
	"crypto/sha1"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Volatile is a running TPM's state besides the permanent one.
type Volatile struct {
	Exclusive       tpm2.Handle // the exclusive audit session, if there is that
	Time            uint64      // milliseconds since _TPM_Init
	PlatformEnabled bool
	PCRReconfigured bool        // PCR_Allocate was done since
	DRTM            tpm2.Handle // the running _TPM_Hash_Start sequence, or NoHandle
	HCRTM           bool        // there was one before Startup
	Locality3       bool        // Startup came from locality 3
	ProtectedUsed   bool        // a protected authorization was tried
	PowerLost       bool        // no Startup since power was lost
	PrevOrderly     uint16      // OrderlyState that Startup found
	NVOk            bool
	Orderly         Orderly
	Clear           Clear
	Reset           Reset
	Manufactured    bool
	Started         bool
	RAM             []RAMIndex
	MaxCount        uint64
	Objects         [LoadedObjects]Object
	PCRs            [tpm2.PCRCount][]PCRBank
	Sessions        [LoadedSessions]*Session // nil where the slot is free
	Failed          bool                     // failure mode
	Established     bool                     // TPM_ESTABLISHED
	AdjustRate      uint32                   // ClockRate when nothing is adjusted
	Saved           uint64                   // when, in milliseconds since 1970
	// The seeds of the TPM that it is of.
	EndorsementSeed, OwnerSeed, PlatformSeed tpm2.Digest
	// The host's clock when it was saved, how long the TPM was suspended before,
	// and both together when its time was last read, in milliseconds.
	Monotonic, Suspended, LastRead uint64
}

const (
	// NoHandle stands for no object (TPM_RH_UNASSIGNED).
	NoHandle tpm2.Handle = 0x40000008
	// ClockRate is the nominal rate of the clock.
	ClockRate = 30000
)

var volatileMark = mark{"the volatile state", 0x45637889, 4, 4, 0}

// DecodeVolatile reads a volatile state of at most MaxVolatile bytes and checks
// its digest. The errors are ErrDamaged and ErrVersion.
func DecodeVolatile(b []byte) (*Volatile, error) {
	if len(b) > MaxVolatile || len(b) < sha1.Size {
		return nil, tooLong(len(b))
	}
	body := b[:len(b)-sha1.Size]
	if sum := sha1.Sum(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("%w: the digest of the volatile state does not match", ErrDamaged)
	}
	w := newReader(body)
	v := new(Volatile)
	v.walk(w)
	w.require(w.Remaining() == 0, "bytes follow it")
	return v, w.finish()
}

// Encode gives the volatile state in the form of a level, as Permanent.Encode.
func (v *Volatile) Encode(level int) ([]byte, error) {
	w := newWriter()
	w.level = level
	v.walk(w)
	sum := sha1.Sum(w.Output())
	return append(w.Output(), sum[:]...), w.finish()
}

func (v *Volatile) walk(w *walker) {
	w.section(volatileMark, 4, func(uint16) {
		v.walkHead(w)
		v.Orderly.walk(w)
		v.Clear.walk(w)
		v.Reset.walk(w)
		w.flags(&v.Manufactured, &v.Started)
		w.block(true, func() { walkCommand(w) })
		w.block(false, nil) // timers, kept elsewhere
		w.block(true, func() { v.walkNV(w) })
		w.block(true, func() { v.walkObjects(w) })
		w.block(true, func() { v.walkPCRs(w) })
		w.block(true, func() { v.walkSessions(w) })
		w.flags(&v.Failed, &v.Established)
		w.block(true, func() { walkWords(w, 3) }) // where it failed
		v.walkClock(w)
		end := volatileMark.magic
		w.U32(&end)
		w.require(end == volatileMark.magic, "its end is not where it should be")
	})
}

func (v *Volatile) walkHead(w *walker) {
	w.U32((*uint32)(&v.Exclusive))
	w.U64(&v.Time)
	w.flags(&v.PlatformEnabled, &v.PCRReconfigured)
	w.U32((*uint32)(&v.DRTM))
	w.flags(&v.HCRTM, &v.Locality3)
	w.block(true, func() { w.Bool(&v.ProtectedUsed) })
	w.Bool(&v.PowerLost)
	w.U16(&v.PrevOrderly)
	w.Bool(&v.NVOk)
	var unique tpm2.Digest // of the platform, which is none's
	unique.Walk(&w.Codec)
}

// walkCommand visits what only lasts for a command.
func walkCommand(w *walker) {
	w.array(LoadedSessions, "sessions of a command")
	var attributes uint8
	var b tpm2.Digest
	for range LoadedSessions {
		walkWords(w, 1)
		w.U8(&attributes)
		walkWords(w, 1)
		b.Walk(&w.Codec)
		b.Walk(&w.Codec)
	}
	walkWords(w, 3)
	w.block(true, func() { b.Walk(&w.Codec) })
	var pending bool
	w.Bool(&pending)
}

// walkWords visits n words that say nothing.
func walkWords(w *walker, n int) {
	var word uint32
	for range n {
		w.U32(&word)
	}
}

func (v *Volatile) walkNV(w *walker) {
	walkWords(w, 1) // where the entries end
	ram := make([]byte, ramSpace)
	if !w.Decoding() {
		putRAM(ram, v.RAM)
	}
	w.fixed(ram, "bytes of orderly Indices")
	w.U64(&v.MaxCount)
	if w.ok() && w.Decoding() {
		v.RAM = takeRAM(w, ram)
	}
}

func (v *Volatile) walkObjects(w *walker) {
	w.array(LoadedObjects, "objects")
	for i := range v.Objects {
		v.Objects[i].walk(w)
	}
}

func (v *Volatile) walkPCRs(w *walker) {
	w.array(tpm2.PCRCount, "PCRs")
	for i := range v.PCRs {
		w.section(pcrMark, 2, func(uint16) { walkBanks(w, &v.PCRs[i], 1) })
	}
}

func (v *Volatile) walkSessions(w *walker) {
	w.array(LoadedSessions, "sessions")
	for i := range v.Sessions {
		walkSlot(w, &v.Sessions[i])
	}
	walkWords(w, 2) // the oldest one saved, and the number of free slots
}

func (v *Volatile) walkClock(w *walker) {
	var previous, ticks, reported uint64
	w.block(true, func() {
		w.U64(&previous)
		w.U64(&ticks)
	})
	var reset, stopped bool
	w.flags(&reset, &stopped)
	w.U32(&v.AdjustRate)
	w.U64(&v.Saved)
	w.block(true, func() {
		for _, s := range []*tpm2.Digest{&v.EndorsementSeed, &v.OwnerSeed, &v.PlatformSeed} {
			s.Walk(&w.Codec)
		}
		w.block(true, func() {
			w.U64(&v.Monotonic)
			w.U64(&v.Suspended)
			w.U64(&v.LastRead)
			w.U64(&reported)
			w.future()
		})
	})
}
