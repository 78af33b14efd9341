package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
)

// amdArc is where AMD's X.509 extensions are (AMD 57230, section 3.1):
// 1.3.6.1.4.1.3704.1.
var amdArc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// Numbers of extensions below amdArc.
const (
	extStructVersion = 1
	extProductName   = 2
	extSPL           = 3 // with one more number: which part of the TCB
	extHWID          = 4
	extCSP           = 5
)

// maxExtension bounds a text or identity in an extension, in bytes.
const maxExtension = 64

// endorsement is what a VCEK's or VLEK's certificate says.
type endorsement struct {
	key         *ecdsa.PublicKey
	vlek        bool
	productName string // "Milan-B0", "Genoa"
	tcb         TCB
	turin       bool   // struct version 1
	hwid        []byte // empty for a VLEK
	csp         string // the cloud provider of a VLEK
}

// line is the product line in the product's name.
func (e *endorsement) line() string {
	line, _, _ := strings.Cut(e.productName, "-")
	return line
}

// parseEndorsement reads a VCEK's or VLEK's certificate. An extension of AMD's that is
// not known is passed over unless it is critical; a known one that comes twice,
// or is not of its form, is refused.
func parseEndorsement(c *x509.Certificate) (*endorsement, error) {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("it is not for a P-384 key, as a VCEK or VLEK is")
	}
	e := &endorsement{key: key}
	parts := map[int]uint8{}
	seen := map[string]bool{}
	for _, x := range c.Extensions {
		if len(x.Id) <= len(amdArc) || !x.Id[:len(amdArc)].Equal(amdArc) {
			continue
		}
		if seen[x.Id.String()] {
			return nil, fmt.Errorf("its extension %s comes twice", x.Id)
		}
		seen[x.Id.String()] = true
		if err := e.extension(x.Id[len(amdArc):], x.Value, parts); err != nil {
			return nil, fmt.Errorf("its extension %s is not of its form: %w", x.Id, err)
		}
	}
	switch cn := c.Subject.CommonName; cn {
	case "SEV-VCEK":
	case "SEV-VLEK":
		e.vlek = true
	default:
		return nil, fmt.Errorf("it is for %.80q, and neither for SEV-VCEK nor for SEV-VLEK", cn)
	}
	want := 64
	if e.turin {
		want = 8
	}
	switch {
	case e.productName == "":
		return nil, errors.New("it names no product")
	case !e.vlek && len(e.hwid) != want:
		return nil, fmt.Errorf("it has a hardware identity of %d bytes: that of a VCEK of %s has %d", len(e.hwid), e.line(), want)
	case e.vlek && len(e.hwid) > 0:
		return nil, errors.New("it is a VLEK's, and names a chip")
	}
	return e, e.setTCB(parts)
}

// extension reads one extension of AMD's.
func (e *endorsement) extension(id asn1.ObjectIdentifier, value []byte, parts map[int]uint8) error {
	switch {
	case len(id) == 1 && id[0] == extStructVersion:
		v, err := small(value)
		e.turin = v == 1
		if err == nil && v > 1 {
			err = fmt.Errorf("it is version %d of the certificate's structure: 0 and 1 are known", v)
		}
		return err
	case len(id) == 1 && id[0] == extProductName:
		return ia5(value, &e.productName)
	case len(id) == 1 && id[0] == extCSP:
		return ia5(value, &e.csp)
	case len(id) == 1 && id[0] == extHWID:
		// As AMD writes it, without a tag; with one, as X.509 would have it.
		if e.hwid = value; len(value) != 64 && len(value) != 8 {
			rest, err := asn1.Unmarshal(value, &e.hwid)
			if err != nil || len(rest) > 0 {
				return errors.New("it is no hardware identity")
			}
		}
		return nil
	case len(id) == 2 && id[0] == extSPL:
		v, err := small(value)
		parts[id[1]] = v
		return err
	}
	return nil
}

// setTCB puts the parts where a report of the product has them.
func (e *endorsement) setTCB(parts map[int]uint8) error {
	order := [8]int{1, 2, 4, 5, 6, 7, 3, 8} // boot loader, TEE, four reserved, SNP, microcode
	needed := []int{1, 2, 3, 8}
	if e.turin {
		order = [8]int{9, 1, 2, 3, 5, 6, 7, 8} // FMC, boot loader, TEE, SNP, three reserved, microcode
		needed = append(needed, 9)
	}
	for _, n := range needed {
		if _, ok := parts[n]; !ok {
			return fmt.Errorf("it lacks the security patch level %d, so that its TCB is not known", n)
		}
	}
	for i, n := range order {
		e.tcb[i] = parts[n]
		delete(parts, n)
	}
	for n, v := range parts {
		if v != 0 {
			return fmt.Errorf("it has the security patch level %d, which its product does not have", n)
		}
	}
	return nil
}

func small(der []byte) (uint8, error) {
	var n int
	rest, err := asn1.Unmarshal(der, &n)
	if err != nil || len(rest) > 0 || n < 0 || n > 255 {
		return 0, errors.New("it is no number of one byte")
	}
	return uint8(n), nil
}

func ia5(der []byte, into *string) error {
	if len(der) < 3 || der[0] != asn1.TagIA5String || len(der) > maxExtension+2 {
		return errors.New("it is no short text")
	}
	rest, err := asn1.UnmarshalWithParams(der, into, "ia5")
	if err != nil || len(rest) > 0 {
		return errors.New("it is no text")
	}
	return nil
}

// matches tells whether a report's chip is the certificate's: the same identity,
// and nothing after it.
func (e *endorsement) matches(chip *[64]byte) bool {
	return bytes.Equal(chip[:len(e.hwid)], e.hwid) && zero(chip[len(e.hwid):])
}
