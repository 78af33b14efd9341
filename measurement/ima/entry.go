package ima

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// legacyNameSize is what the template "ima" hashes of a name: it is cut or
// filled with zeros to this many bytes.
const legacyNameSize = 256

// Entry is one measurement.
type Entry struct {
	Number       int    // position in the log, from 1
	Offset       int    // of its first byte in the log
	PCR          uint32 // below 24
	TemplateHash []byte // as logged; zeros mark a violation
	Template     *Template
	Data         []byte // the fields, each after its length, as the kernel hashed them
	bigEndian    bool
}

// Violation tells whether the kernel could not measure the file for sure: it
// was open for writing while it was measured, or measured while open. Such an
// entry extends the PCR with ones.
func (e *Entry) Violation() bool {
	for _, b := range e.TemplateHash {
		if b != 0 {
			return false
		}
	}
	return true
}

func (e *Entry) u32(b []byte) uint32 {
	if e.bigEndian {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// field gives the content of field i; parsing has made sure that it fits.
func (e *Entry) field(i int) []byte {
	if i < 0 || i >= len(e.Template.Fields) {
		return nil
	}
	if e.Template.legacy() {
		if i == e.Template.digest {
			return e.Data[:sha1.Size]
		}
		return e.Data[sha1.Size+4:]
	}
	b := e.Data
	for ; i > 0; i-- {
		b = b[4+e.u32(b):]
	}
	return b[4 : 4+e.u32(b)]
}

// Field gives a field's bytes by its identifier, such as "sig", "modsig" or
// "evmsig", and whether the template has it.
func (e *Entry) Field(id string) ([]byte, bool) {
	for i, f := range e.Template.Fields {
		if f == id {
			return e.field(i), true
		}
	}
	return nil, false
}

// PathBytes gives the file's path, or the name of what was measured, as
// logged: the kernel writes "_" for a space.
func (e *Entry) PathBytes() []byte {
	return bytes.TrimRight(e.field(e.Template.path), "\x00")
}

// Path is PathBytes as a string.
func (e *Entry) Path() string { return string(e.PathBytes()) }

// FileDigest gives the measured digest and its algorithm's name in the kernel,
// such as "sha256". The digest aliases the log.
func (e *Entry) FileDigest() (alg string, digest []byte) {
	if e.Template.legacy() {
		return "sha1", e.field(e.Template.digest)
	}
	_, alg, digest = splitDigest(e.field(e.Template.digest))
	return alg, digest
}

// Comparable tells whether the entry names a file and its digest beyond doubt,
// so that both may be compared with a list. What the PCR proves are the fields'
// bytes alone: neither the template's name nor, for an unknown template, where
// the fields end. A log's writer could rename the template so that another field
// is read as the digest, say a signature, whose bytes the file's owner chooses.
// So only templates that begin with digest and name count, as the kernel's own do.
func (e *Entry) Comparable() bool {
	t := e.Template
	if t.digest != 0 || t.path != 1 || len(e.PathBytes()) == 0 {
		return false
	}
	if t.legacy() { // the hash covers no more of a name
		return len(e.Data)-sha1.Size-4 <= legacyNameSize
	}
	kind, alg, digest := splitDigest(e.field(0))
	if kind != "" && kind != "ima" && kind != "verity" || alg == "" || len(digest) == 0 {
		return false
	}
	for _, c := range []byte(alg) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	known, ok := tpm2.ParseAlg(alg)
	return !ok || known.DigestSize() == 0 || known.DigestSize() == len(digest)
}

// DigestType tells for the v2 templates what was hashed: "ima" for the file's
// content, "verity" for its fs-verity tree. It is "" elsewhere.
func (e *Entry) DigestType() string {
	kind, _, _ := splitDigest(e.field(e.Template.digest))
	return kind
}

// splitDigest splits "alg:\0digest" and "type:alg:\0digest".
func splitDigest(b []byte) (kind, alg string, digest []byte) {
	head, digest, ok := bytes.Cut(b, []byte(":\x00"))
	if !ok {
		return "", "", b
	}
	if k, a, ok := bytes.Cut(head, []byte(":")); ok {
		return intern(k), intern(a), digest
	}
	return "", intern(head), digest
}

// intern saves an allocation for the usual names.
func intern(b []byte) string {
	switch string(b) {
	case "sha256":
		return "sha256"
	case "sha1":
		return "sha1"
	case "sha384":
		return "sha384"
	case "sha512":
		return "sha512"
	case "ima":
		return "ima"
	case "verity":
		return "verity"
	}
	return string(b)
}

// IsBootAggregate tells whether the entry is the kernel's own summary of the
// PCRs at its start.
func (e *Entry) IsBootAggregate() bool { return string(e.PathBytes()) == "boot_aggregate" }

// hash writes the template hash under one of the four algorithms to out.
func (e *Entry) hash(alg tpm2.AlgID, out *[tpm2.MaxDigestSize]byte) {
	data := e.Data
	var fixed [sha1.Size + legacyNameSize]byte
	if e.Template.legacy() {
		copy(fixed[:], e.Data[:sha1.Size])
		copy(fixed[sha1.Size:], e.Data[sha1.Size+4:])
		data = fixed[:]
	}
	sum(alg, out, data)
}

// sum hashes without the allocations that hash.Hash costs.
func sum(alg tpm2.AlgID, out *[tpm2.MaxDigestSize]byte, data []byte) {
	switch alg {
	case tpm2.AlgSHA1:
		s := sha1.Sum(data)
		copy(out[:], s[:])
	case tpm2.AlgSHA256:
		s := sha256.Sum256(data)
		copy(out[:], s[:])
	case tpm2.AlgSHA384:
		s := sha512.Sum384(data)
		copy(out[:], s[:])
	case tpm2.AlgSHA512:
		s := sha512.Sum512(data)
		copy(out[:], s[:])
	}
}
