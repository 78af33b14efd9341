package eventlog

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Limits of what a signature database may hold before it is only counted.
const (
	maxVariableName = 1024 // UTF-16 units
	maxSubjects     = 12   // certificates named in an explanation
)

// Variable is a UEFI_VARIABLE_DATA (PFP, section 10.2.6), the data of the
// EV_EFI_VARIABLE_* events.
type Variable struct {
	GUID GUID
	Name string
	Data []byte
}

// IsVariable tells whether events of the type carry a UEFI_VARIABLE_DATA.
func (t EventType) IsVariable() bool {
	switch t {
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2, EFIVariableAuthority,
		EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		return true
	}
	return false
}

// ParseVariable reads a UEFI_VARIABLE_DATA; an error says which of its lengths
// does not fit. Bytes after the structure are tolerated.
func ParseVariable(data []byte) (Variable, error) {
	const fixed = 16 + 8 + 8
	if len(data) < fixed {
		return Variable{}, fmt.Errorf("a UEFI variable needs at least %d bytes, there are %d", fixed, len(data))
	}
	nameLen := binary.LittleEndian.Uint64(data[16:])
	dataLen := binary.LittleEndian.Uint64(data[24:])
	rest := data[fixed:]
	if nameLen > maxVariableName || nameLen*2 > uint64(len(rest)) {
		return Variable{}, fmt.Errorf("a UEFI variable's name should have %d characters, %d bytes are left", nameLen, len(rest))
	}
	name := utf16String(rest[:nameLen*2])
	rest = rest[nameLen*2:]
	if dataLen > uint64(len(rest)) {
		return Variable{}, fmt.Errorf("UEFI variable %q should have %d bytes, %d are left", name, dataLen, len(rest))
	}
	return Variable{guidAt(data), name, rest[:dataLen:dataLen]}, nil
}

// Signature is one entry of a signature database: a certificate or a hash
// (EFI_SIGNATURE_DATA; UEFI specification, section 32.4.1).
type Signature struct {
	Type  GUID // of the list it stands in
	Owner GUID
	Data  []byte
}

// Certificate parses the entry where it is an X.509 certificate.
func (s *Signature) Certificate() (*x509.Certificate, error) {
	if s.Type.String() != guidCertX509 {
		return nil, errors.New("the signature entry is no X.509 certificate but a " + s.Type.name())
	}
	return x509.ParseCertificate(s.Data)
}

// ParseSignatures reads the EFI_SIGNATURE_LISTs of PK, KEK, db or dbx.
func ParseSignatures(data []byte) ([]Signature, error) {
	const fixed = 16 + 4 + 4 + 4
	var sigs []Signature
	for n := 1; len(data) > 0; n++ {
		if len(data) < fixed {
			return sigs, fmt.Errorf("signature list %d is cut short", n)
		}
		kind := guidAt(data)
		listSize := uint64(binary.LittleEndian.Uint32(data[16:]))
		headSize := uint64(binary.LittleEndian.Uint32(data[20:]))
		each := uint64(binary.LittleEndian.Uint32(data[24:]))
		if listSize > uint64(len(data)) || listSize < fixed+headSize {
			return sigs, fmt.Errorf("signature list %d should have %d bytes, %d are left", n, listSize, len(data))
		}
		body := data[fixed+headSize : listSize]
		if each < 16 || uint64(len(body))%each != 0 {
			return sigs, fmt.Errorf("signature list %d has %d bytes in entries of %d", n, len(body), each)
		}
		for ; len(body) > 0; body = body[each:] {
			sigs = append(sigs, Signature{kind, guidAt(body), body[16:each:each]})
		}
		data = data[listSize:]
	}
	return sigs, nil
}

// explain says what a variable sets.
func (v *Variable) explain(t EventType) string {
	name := v.Name
	if g := v.GUID.String(); g != guidGlobalVariable && g != guidImageSecurity {
		name += " (" + v.GUID.name() + ")"
	}
	if t == EFIVariableAuthority || t == EFISPDMDeviceAuthority {
		return v.authority(name)
	}
	switch v.Name {
	case "SecureBoot", "SetupMode", "AuditMode", "DeployedMode":
		return "UEFI variable " + name + ": " + onOff(v.Data)
	case "PK", "KEK", "db", "dbx", "dbt", "dbr":
		return "Secure Boot database " + name + ": " + describeSignatures(v.Data)
	case "BootOrder":
		return "UEFI variable BootOrder: " + bootOrder(v.Data)
	}
	if isBootOption(v.Name) {
		return "boot option " + v.Name + ": " + loadOption(v.Data)
	}
	return "UEFI variable " + name + ": " + describeBytes(v.Data)
}

// authority explains what vouched for an image: a certificate from db, or one
// of shim's variables.
func (v *Variable) authority(name string) string {
	if strings.HasPrefix(v.Name, "SbatLevel") {
		return "shim's revocation level " + name + ": " + strings.Join(strings.Fields(printable(v.Data)), "; ")
	}
	if v.Name == "MokListTrusted" {
		return "shim's " + name + ": machine owner keys are trusted by the kernel: " + onOff(v.Data)
	}
	if len(v.Data) > 16 {
		if cert, err := x509.ParseCertificate(v.Data[16:]); err == nil {
			return "image verified by the certificate of " + subject(cert) + " in " + name
		}
	}
	if cert, err := x509.ParseCertificate(v.Data); err == nil {
		return "image verified by the certificate of " + subject(cert) + " in " + name
	}
	if sigs, err := ParseSignatures(v.Data); err == nil && len(sigs) > 0 {
		return "image verified by " + name + ": " + describeSignatures(v.Data)
	}
	return "image verified by " + name + ": " + describeBytes(v.Data)
}

func onOff(data []byte) string {
	switch {
	case len(data) == 0:
		return "not set"
	case len(data) == 1 && data[0] == 0:
		return "off"
	case len(data) == 1 && data[0] == 1:
		return "on"
	}
	return describeBytes(data)
}

// describeSignatures counts a database's entries by kind and names its
// certificates.
func describeSignatures(data []byte) string {
	if len(data) == 0 {
		return "empty"
	}
	sigs, err := ParseSignatures(data)
	if err != nil && len(sigs) == 0 {
		return err.Error()
	}
	var kinds []string
	count := map[string]int{}
	var subjects []string
	for i := range sigs {
		kind := sigs[i].Type.name()
		if count[kind] == 0 {
			kinds = append(kinds, kind)
		}
		count[kind]++
		if sigs[i].Type.String() != guidCertX509 || len(subjects) > maxSubjects {
			continue
		}
		switch cert, err := sigs[i].Certificate(); {
		case len(subjects) == maxSubjects:
			subjects = append(subjects, "…")
		case err != nil:
			subjects = append(subjects, "one that cannot be read")
		default:
			subjects = append(subjects, subject(cert))
		}
	}
	for i, k := range kinds {
		kinds[i] = plural(count[k], k)
	}
	text := strings.Join(kinds, ", ")
	if len(subjects) > 0 {
		text += ": " + strings.Join(subjects, "; ")
	}
	if err != nil {
		text += "; then " + err.Error()
	}
	return text
}

// plural counts things whose name is "thing" or "thing (kind)".
func plural(n int, name string) string {
	if n == 1 {
		return "1 " + name
	}
	head, tail, ok := strings.Cut(name, " (")
	if ok {
		tail = " (" + tail
	}
	if strings.HasSuffix(head, "sh") {
		head += "e"
	}
	return fmt.Sprintf("%d %ss%s", n, head, tail)
}

// subject gives the name by which people know a certificate, fit for printing:
// a certificate holds what its maker likes.
func subject(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return clean(c.Subject.CommonName)
	}
	if s := c.Subject.String(); s != "" {
		return clean(s)
	}
	return "serial " + c.SerialNumber.String()
}
