package libtpms

import "github.com/ashlar-cloud/ashlar/tpm2"

// Permanent is the permanent state (PERSISTENT_ALL).
type Permanent struct {
	// Profile is the profile's JSON; empty in a state of libtpms before 0.10, or
	// of its profile null.
	Profile string
	Data    Data
	Orderly Orderly
	// Reset and Clear are what TPM2_Shutdown(STATE) has saved, nil without it.
	Reset   *Reset
	Clear   *Clear
	RAM     []RAMIndex
	Entries []Entry
	// MaxCount is the largest value of a counter that was deleted.
	MaxCount uint64
}

var (
	permanentMark = mark{"PERSISTENT_ALL", 0xab364723, 3, 4, 3}
	constantsMark = mark{"the compile-time constants", 0xc9ea6431, 2, 3, 0}
)

// Levels of a state's form from which libtpms writes newer versions of its
// parts (StateFormatLevel). Level 1 is what libtpms 0.9 writes.
const (
	levelProfile = 2 // PERSISTENT_ALL 4
	levelObjects = 6 // OBJECT 4
	// LevelLists is the first at which lists can name every command
	// (PERSISTENT_DATA 5).
	LevelLists = 3
)

// since is the version that a part is written in: the older one before a level.
func (w *walker) since(level int, older, newer uint16) uint16 {
	if w.level < level {
		return older
	}
	return newer
}

// DecodePermanent reads a permanent state, which has at most MaxPermanent
// bytes. The errors are ErrDamaged and ErrVersion.
func DecodePermanent(b []byte) (*Permanent, error) {
	if len(b) > MaxPermanent {
		return nil, tooLong(len(b))
	}
	w := newReader(b)
	p := new(Permanent)
	p.walk(w)
	w.require(w.Remaining() == 0, "bytes follow it")
	return p, w.finish()
}

// Encode gives the permanent state in the form of a level: 1 is that of libtpms
// 0.9, which has no profile.
func (p *Permanent) Encode(level int) ([]byte, error) {
	w := newWriter()
	w.level = level
	p.walk(w)
	return w.Output(), w.finish()
}

func (p *Permanent) walk(w *walker) {
	w.section(permanentMark, w.since(levelProfile, 3, 4), func(version uint16) {
		if version >= 4 {
			w.text(&p.Profile)
		}
		walkConstants(w)
		p.Data.walk(w)
		p.Orderly.walk(w)
		p.walkSaved(w)
		walkRAM(w, &p.RAM)
		p.walkEntries(w)
		w.future()
		end := permanentMark.magic
		w.U32(&end)
		w.require(end == permanentMark.magic, "its end is not where it should be")
	})
}

// walkSaved visits what Shutdown(STATE) saves.
func (p *Permanent) walkSaved(w *walker) {
	if !w.ok() || !p.Data.Saved() {
		return
	}
	if w.Decoding() {
		p.Reset, p.Clear = new(Reset), new(Clear)
	}
	p.Reset.walk(w)
	p.Clear.walk(w)
}

// maxText is the length of the longest profile in bytes, with its NUL.
const maxText = 1 << 14

// text visits a string with its length and a NUL.
func (w *walker) text(s *string) {
	b := append([]byte(*s), 0)
	w.Buffer(&b, maxText)
	if w.ok() && w.Decoding() {
		w.require(len(b) > 0 && b[len(b)-1] == 0, "its profile has no end")
	}
	if w.ok() {
		*s = string(b[:len(b)-1])
	}
}

// Entry is an NV Index or a persistent object; one of the two is set.
type Entry struct {
	Index  *Index
	Object *Object
	Handle tpm2.Handle
}

var entriesMark = mark{"USER_NVRAM", 0x094f22c3, 2, 2, 0}

// Sizes in bytes, those of libtpms 0.9 on a 64-bit machine: of the memory for
// entries, and of an entry without an Index's data.
const (
	nvSpace    = 171200
	indexSize  = 4 + 148
	objectSize = 4 + 4 + 2600
)

// maxEntries bounds the entries: every one of them takes room for an Index.
const maxEntries = nvSpace / indexSize

func (p *Permanent) walkEntries(w *walker) {
	w.section(entriesMark, 2, func(uint16) {
		space := uint64(nvSpace)
		w.U64(&space)
		for i := 0; w.ok(); i++ {
			if w.Decoding() {
				p.Entries = append(p.Entries, Entry{})
				w.require(i <= maxEntries, "it has more entries than there is room for")
			}
			if i == len(p.Entries) || !p.Entries[i].walk(w) {
				p.Entries = p.Entries[:i]
				break
			}
		}
		if !w.Decoding() {
			var end uint32
			w.U32(&end)
		}
		w.U64(&p.MaxCount)
		w.future()
	})
}

// walk visits an entry, and reports whether there was one.
func (e *Entry) walk(w *walker) bool {
	size := uint32(objectSize)
	if e.Index != nil {
		size = uint32(indexSize + len(e.Index.Data))
	}
	if w.U32(&size); size == 0 {
		return false
	}
	w.U32((*uint32)(&e.Handle))
	if !w.ok() {
		return false
	}
	switch e.Handle.Type() {
	case tpm2.HTNVIndex:
		if w.Decoding() {
			e.Index = new(Index)
		}
		e.Index.walk(w, e.Handle)
		w.require(!w.Decoding() || int(size) == indexSize+len(e.Index.Data), "the size of an Index is not that of its parts")
	case tpm2.HTPersistent:
		if w.Decoding() {
			e.Object = new(Object)
		}
		e.Object.walk(w)
	default:
		w.require(false, "an entry is neither an Index nor an object")
	}
	return w.ok()
}

// Index is an NV Index (NV_INDEX).
type Index struct {
	Public tpm2.NVPublic
	Auth   tpm2.Digest
	Data   []byte // none of an orderly Index, whose data is in RAM
}

var indexMark = mark{"NV_INDEX", 0x2547265a, 2, 2, 0}

func (x *Index) walk(w *walker, h tpm2.Handle) {
	w.section(indexMark, 2, func(uint16) {
		x.Public.Walk(&w.Codec)
		x.Auth.Walk(&w.Codec)
		w.future()
		w.require(x.Public.Index == h, "an Index is listed under another handle")
	})
	n := uint32(len(x.Data))
	w.U32(&n)
	want := uint32(x.Public.DataSize)
	if x.Public.Attributes.Has(tpm2.NVOrderly) {
		want = 0
	}
	w.require(n == want, "an Index has data of another size than it says")
	if w.ok() {
		w.Raw(&x.Data, int(n))
	}
}

// RAMIndex is the part of an orderly Index that changes without being written.
type RAMIndex struct {
	Handle     tpm2.Handle
	Attributes tpm2.NVAttributes
	Data       []byte
}

var ramMark = mark{"INDEX_ORDERLY_RAM", 0x5346feab, 2, 2, 0}

// Sizes in bytes: of the RAM for orderly Indices, and of one without its data.
const (
	ramSpace  = 512
	ramHeader = 12
)

func walkRAM(w *walker, list *[]RAMIndex) {
	w.section(ramMark, 2, func(uint16) {
		space, used := uint32(ramSpace), 0
		w.U32(&space)
		w.require(space == ramSpace, "it has another size")
		for i := 0; w.ok() && used+ramHeader <= ramSpace; i++ {
			if w.Decoding() {
				*list = append(*list, RAMIndex{})
			}
			if i == len(*list) || !(*list)[i].walk(w) {
				*list = (*list)[:i]
				if !w.Decoding() {
					var end uint32
					w.U32(&end)
				}
				break
			}
			used += ramHeader + len((*list)[i].Data)
		}
		w.require(used <= ramSpace, "there is not so much room")
		w.future()
	})
}

// walk visits an entry, and reports whether there was one.
func (x *RAMIndex) walk(w *walker) bool {
	size, n := uint32(ramHeader+len(x.Data)), uint16(len(x.Data))
	if w.U32(&size); size == 0 {
		return false
	}
	x.Handle.Walk(&w.Codec)
	x.Attributes.Walk(&w.Codec)
	w.U16(&n)
	w.require(size == ramHeader+uint32(n) && n <= ramSpace, "the size of an Index is not that of its parts")
	if w.ok() {
		w.Raw(&x.Data, int(n))
	}
	return w.ok()
}
