package ima

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

// Limits of what an explanation quotes.
const (
	maxText = 1024 // bytes of text
	maxHex  = 16   // bytes in hexadecimal
)

// Explain says in one line what an entry measured. Control characters in
// names are escaped.
func Explain(e *Entry) string {
	if e.Template.Fields == nil {
		return fmt.Sprintf("an entry of the unknown template %s, %d bytes", e.Template.Name, len(e.Data))
	}
	name := clean(e.Path())
	if e.Template.path < 0 {
		name = "(without a name)"
	}
	alg, digest := e.FileDigest()
	if e.Violation() {
		return violation(e, name)
	}
	if e.IsBootAggregate() {
		return fmt.Sprintf("the kernel's summary of the boot's PCRs, %s:%x", clean(alg), digest)
	}
	if buf, ok := e.Field("buf"); ok {
		return buffer(name, buf)
	}
	text := fmt.Sprintf("file %s, %s:%x", name, clean(alg), digest)
	if e.DigestType() == "verity" {
		text = fmt.Sprintf("file %s, fs-verity %s:%x", name, clean(alg), digest)
	}
	if sig, ok := e.Field("sig"); ok && len(sig) > 0 {
		text += ", " + signature(sig)
	}
	if sig, ok := e.Field("evmsig"); ok && len(sig) > 0 {
		text += ", EVM " + signature(sig)
	}
	if sig, ok := e.Field("modsig"); ok && len(sig) > 0 {
		text += fmt.Sprintf(", with an appended signature of %d bytes", len(sig))
	}
	return text
}

func violation(e *Entry, name string) string {
	if e.IsBootAggregate() {
		return "violation: the kernel found no TPM when it started, or could not read its PCRs"
	}
	return "violation: " + name + " could change while it was measured (open for writing at the same time)"
}

// bufferKinds are names under which the kernel measures buffers instead of
// files.
var bufferKinds = map[string]string{
	"kexec-cmdline":       "command line of the kernel loaded by kexec",
	"dm_table_load":       "device mapper: a table was loaded",
	"dm_device_resume":    "device mapper: a device was resumed",
	"dm_device_remove":    "device mapper: a device was removed",
	"dm_table_clear":      "device mapper: a table was cleared",
	"dm_device_rename":    "device mapper: a device was renamed",
	"dm_target_update":    "device mapper: a target was updated",
	"kernel_version":      "kernel version",
	"selinux-state":       "SELinux state",
	"selinux-policy-hash": "hash of the SELinux policy",
	"device_resume":       "device mapper: a device was resumed",
	"table_load":          "device mapper: a table was loaded",
	"blacklisted-hash":    "a hash that the kernel refuses",
	"hash-blacklisted":    "a file was refused, its hash is blacklisted",
}

func buffer(name string, buf []byte) string {
	content := fmt.Sprintf("%d bytes", len(buf))
	if s := strings.TrimRight(string(buf), "\x00\n"); s != "" && printable(s) {
		content = fmt.Sprintf("%q", cut(s))
	}
	if kind, ok := bufferKinds[name]; ok {
		return kind + ": " + content
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fmt.Sprintf("a key was added to keyring %s, %d bytes", name, len(buf))
	}
	return "kernel data " + name + ": " + content
}

// signature reads the header of an IMA or EVM signature
// (security/integrity/integrity.h, struct signature_v2_hdr).
func signature(sig []byte) string {
	const (
		evmHMAC   = 2
		digsig    = 3
		imaDigest = 4
		portable  = 5
		verity    = 6
	)
	kind := "signature"
	switch sig[0] {
	case imaDigest:
		return "stored digest " + hexStart(sig[1:])
	case evmHMAC:
		return "HMAC " + hexStart(sig[1:])
	case portable:
		kind = "portable signature"
	case verity:
		kind = "fs-verity signature"
	case digsig:
	default:
		return fmt.Sprintf("signature of unknown type %d, %d bytes", sig[0], len(sig))
	}
	const header = 1 + 1 + 1 + 4 + 2 // type, version, hash, key, size
	if len(sig) < header || sig[1] < 2 {
		return fmt.Sprintf("%s of %d bytes", kind, len(sig))
	}
	return fmt.Sprintf("%s by key %08x", kind, binary.BigEndian.Uint32(sig[3:]))
}

func hexStart(b []byte) string {
	if len(b) > maxHex {
		return hex.EncodeToString(b[:maxHex]) + "…"
	}
	return hex.EncodeToString(b)
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) < 0
}

func cut(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// clean escapes what does not print: names go to terminals.
func clean(s string) string {
	s = cut(s)
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c <= '~' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "\\x%02x", c)
		}
	}
	return b.String()
}
