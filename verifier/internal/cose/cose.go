// Package cose reads CBOR and COSE (RFC 8949, RFC 9052) as evidence has it:
// strictly, since it comes from machines that may be owned.
package cose

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	gocose "github.com/veraison/go-cose"
)

// Limits of what is decoded.
const (
	MaxMessage  = 1 << 20 // bytes
	maxDepth    = 16
	maxElements = 4096 // of an array, and pairs of a map
)

// Tags of messages (RFC 9052, table 1).
const (
	TagSign1 = 18
	TagMac0  = 17
)

// Unmarshal decodes one CBOR item to its last byte: no key of a map twice, no
// more than 16 levels, 4,096 elements of an array or a map, and 1 MiB.
func Unmarshal(b []byte, v any) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("it is %d bytes long: at most %d are read", len(b), MaxMessage)
	}
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: maxDepth,
		MaxArrayElements: maxElements, MaxMapPairs: maxElements, UTF8: cbor.UTF8RejectInvalid,
		IntDec: cbor.IntDecConvertNone}.DecMode()
	if err != nil {
		return err
	}
	err = m.Unmarshal(b, v)
	var other *cbor.UnmarshalTypeError
	if errors.As(err, &other) { // whose text is about types of Go
		return fmt.Errorf("a CBOR %s stands where another type is expected", other.CBORType)
	}
	return err
}

// Message is a COSE_Sign1 or COSE_Mac0 message, with its tag or without.
type Message struct {
	// Tag is TagSign1, TagMac0, or 0 where there is none: then it is a COSE_Sign1.
	Tag     uint64
	Payload []byte
	// Protected are the headers that the signature covers, Unprotected those that
	// it does not, as CBOR maps.
	Protected   gocose.ProtectedHeader
	Unprotected gocose.UnprotectedHeader

	sign1 gocose.Sign1Message
}

type parts struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cbor.RawMessage
	Payload     []byte
	Signature   []byte
}

// Parse decodes a message.
func Parse(b []byte) (*Message, error) {
	m := &Message{}
	var tagged cbor.RawTag
	content := b
	if len(b) > 0 && b[0]>>5 == 6 {
		if err := Unmarshal(b, &tagged); err != nil {
			return nil, fmt.Errorf("it is no COSE message: %w", err)
		}
		if tagged.Number != TagSign1 && tagged.Number != TagMac0 {
			return nil, fmt.Errorf("it is no COSE_Sign1 or COSE_Mac0 message: its tag is %d", tagged.Number)
		}
		m.Tag, content = tagged.Number, tagged.Content
	}
	var p parts
	if err := Unmarshal(content, &p); err != nil {
		return nil, fmt.Errorf("it is no COSE message: %w", err)
	}
	switch {
	case p.Payload == nil:
		return nil, errors.New("the COSE message has no payload")
	case len(p.Signature) == 0:
		return nil, errors.New("the COSE message is not signed")
	}
	raw, err := cbor.Marshal(p.Protected)
	if err != nil {
		return nil, err
	}
	m.sign1 = gocose.Sign1Message{Payload: p.Payload, Signature: p.Signature,
		Headers: gocose.Headers{RawProtected: raw, RawUnprotected: p.Unprotected}}
	if err := m.sign1.Headers.UnmarshalFromRaw(); err != nil {
		return nil, fmt.Errorf("the headers of the COSE message are malformed: %w", err)
	}
	m.Payload, m.Protected, m.Unprotected = p.Payload, m.sign1.Headers.Protected, m.sign1.Headers.Unprotected
	return m, nil
}

// Algorithm names the algorithm that the protected headers state: "ES384".
func (m *Message) Algorithm() string {
	alg, err := m.Protected.Algorithm()
	if err != nil {
		return "none"
	}
	return alg.String()
}

// Verify checks the signature of a COSE_Sign1 by a public key, which must be one
// of the algorithm that the protected headers state.
func (m *Message) Verify(key crypto.PublicKey) error {
	if m.Tag == TagMac0 {
		return errors.New("the message has a MAC, which only who has its secret key can check")
	}
	alg, err := m.Protected.Algorithm()
	if err != nil {
		return fmt.Errorf("the message states no algorithm in its protected headers: %w", err)
	}
	v, err := gocose.NewVerifier(alg, key)
	if err != nil {
		return fmt.Errorf("the message states the algorithm %v, and the key is none of that: %w", alg, err)
	}
	return m.sign1.Verify(nil, v)
}

// Key decodes a COSE_Key (RFC 9052, 7) of a public key.
func Key(b []byte) (crypto.PublicKey, error) {
	var k gocose.Key
	if err := k.UnmarshalCBOR(b); err != nil {
		return nil, fmt.Errorf("it is no COSE_Key: %w", err)
	}
	return k.PublicKey()
}
