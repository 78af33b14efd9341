package libtpms

import "github.com/ashlar-cloud/ashlar/tpm2"

// ObjectFlags are an object's state besides its public area
// (OBJECT_ATTRIBUTES).
type ObjectFlags uint32

// The flags of an object and of a sequence.
const (
	ObjectPublicOnly ObjectFlags = 1 << iota
	ObjectEndorsement
	ObjectPlatform
	ObjectOwner
	ObjectEvict
	ObjectPrimary
	ObjectTemporary
	ObjectSTClear
	ObjectHMACSequence
	ObjectHashSequence
	ObjectEventSequence
	ObjectTicketSafe
	ObjectFirstBlock // data has come in
	ObjectParent
	ObjectExponent // of an RSA key, Exponent is there
	ObjectOccupied
	ObjectDerivation
	ObjectExternal

	objectSequences = ObjectHMACSequence | ObjectHashSequence | ObjectEventSequence
)

// Has reports whether all flags in f are set.
func (o ObjectFlags) Has(f ObjectFlags) bool { return o&f == f }

// Object is what a slot or an entry holds: an object, a sequence, or nothing
// (ANY_OBJECT).
type Object struct {
	Flags     ObjectFlags
	Public    tpm2.Public
	Sensitive *tpm2.Sensitive // nil of a public area alone
	// Exponent is the second prime of an RSA key and its CRT values dP, dQ and
	// qInv, big-endian.
	Exponent      [4][]byte
	QualifiedName tpm2.Name
	EvictHandle   tpm2.Handle
	Name          tpm2.Name
	Level         uint8 // seed-compatibility level
	Hierarchy     tpm2.Handle
	Sequence      *Sequence
}

var (
	anyObjectMark = mark{"ANY_OBJECT", 0xfe9a3974, 2, 2, 0}
	objectMark    = mark{"OBJECT", 0x75be73af, 2, 4, 3}
	exponentMark  = mark{"the private exponent", 0x0854eab2, 2, 2, 0}
	primeMark     = mark{"a prime", 0x2fe736ab, 2, 2, 0}
)

func (o *Object) walk(w *walker) {
	w.section(anyObjectMark, 2, func(uint16) {
		w.U32((*uint32)(&o.Flags))
		switch {
		case !w.ok() || !o.Flags.Has(ObjectOccupied):
		case o.Flags&objectSequences != 0:
			if w.Decoding() {
				o.Sequence = new(Sequence)
			}
			o.Sequence.walk(w, o.Flags)
		default:
			o.walkObject(w)
		}
		w.future()
	})
}

func (o *Object) walkObject(w *walker) {
	w.section(objectMark, w.since(levelObjects, 3, 4), func(version uint16) {
		(*tpm2.PublicOrNull)(&o.Public).Walk(&w.Codec)
		o.walkSensitive(w)
		rsa := o.Sensitive != nil && o.Sensitive.Type == tpm2.AlgRSA
		w.block(version < 4 || rsa, func() { o.walkExponent(w) })
		o.QualifiedName.Walk(&w.Codec)
		w.U32((*uint32)(&o.EvictHandle))
		o.Name.Walk(&w.Codec)
		if version < 3 {
			w.future()
			return
		}
		w.block(true, func() { o.walkLater(w, version) })
	})
}

// walkLater visits what came in version 3 and 4.
func (o *Object) walkLater(w *walker, version uint16) {
	walkLevel(w, &o.Level)
	if version < 4 {
		w.future()
		return
	}
	w.block(true, func() { w.U32((*uint32)(&o.Hierarchy)) })
}

// walkSensitive visits the sensitive area, of which a public area alone has the
// head, with a type of 0.
func (o *Object) walkSensitive(w *walker) {
	if !w.ok() {
		return
	}
	none := len(w.Rest()) >= 2 && w.Rest()[0] == 0 && w.Rest()[1] == 0
	if !w.Decoding() {
		none = o.Sensitive == nil
	}
	if none {
		var kind, auth, seed uint16
		w.U16(&kind)
		w.U16(&auth)
		w.U16(&seed)
		w.require(auth == 0 && seed == 0, "an object without a sensitive area has a part of one")
		return
	}
	if w.Decoding() {
		o.Sensitive = new(tpm2.Sensitive)
	}
	o.Sensitive.Walk(&w.Codec)
}

func (o *Object) walkExponent(w *walker) {
	w.section(exponentMark, 2, func(uint16) {
		for i := range o.Exponent {
			walkNumber(w, &o.Exponent[i])
		}
		w.future()
	})
}

// wordSize is the size of a word of a number in bytes, and maxNumber that of the
// largest number, half of an RSA key.
const (
	wordSize  = 8
	maxNumber = 4096 / 8 / 2
)

// walkNumber visits a number: words of 8 bytes, big-endian each, but the least
// significant one first. A 32-bit libtpms writes smaller words, which are not
// told from these; only a number's size gives it away.
func walkNumber(w *walker, n *[]byte) {
	w.section(primeMark, 2, func(uint16) {
		b := reverseWords(*n)
		w.Buffer(&b, maxNumber)
		w.require(len(b)%wordSize == 0, "a number is not of whole words")
		if w.ok() {
			*n = reverseWords(b)
		}
		w.future()
	})
}

// reverseWords puts the last word first; what is short of a word is filled up.
func reverseWords(n []byte) []byte {
	full := make([]byte, (len(n)+wordSize-1)/wordSize*wordSize)
	copy(full[len(full)-len(n):], n)
	out := make([]byte, len(full))
	for i := 0; i < len(full); i += wordSize {
		copy(out[len(out)-i-wordSize:], full[i:i+wordSize])
	}
	return out
}
