package swtpm

import "fmt"

// Result is the answer to a control command: a code of TPM 1.2, which swtpm's
// protocol kept.
type Result uint32

// Results of control commands.
const (
	OK             Result = 0x000
	BadParameter   Result = 0x003 // wrong length or value
	Fail           Result = 0x009
	BadOrdinal     Result = 0x00A // unknown, or not in this state of power
	KeyNotFound    Result = 0x00D // a state is encrypted, and there is no key
	IOError        Result = 0x01F
	DecryptError   Result = 0x021 // under another key, or altered
	BadKeyProperty Result = 0x028 // under a key of another length
	BadLocality    Result = 0x03D
	Retry          Result = 0x800 // there is no such state
)

var resultNames = map[Result]string{
	OK: "success", BadParameter: "bad parameter", Fail: "failed",
	BadOrdinal: "not possible in this state", KeyNotFound: "the key is missing",
	DecryptError: "the key is another one", BadKeyProperty: "the key has another length", IOError: "input or output error",
	BadLocality: "bad locality", Retry: "not available",
}

// String says what the result means, in words.
func (r Result) String() string {
	if s, ok := resultNames[r]; ok {
		return s
	}
	return fmt.Sprintf("result 0x%x", uint32(r))
}
