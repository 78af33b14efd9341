package swtpm

import "encoding/json"

// Flags of GET_INFO and --print-info.
const (
	InfoSpecification uint64 = 1 << 0
	InfoAttributes    uint64 = 1 << 1
	InfoFeatures      uint64 = 1 << 2
)

// What an EK certificate says of the TPM; a test compares it with what
// TPM2_GetCapability answers.
const (
	specFamily   = "2.0"
	specLevel    = 0
	specRevision = 164
)

type specification struct {
	Family   string `json:"family"`
	Level    int    `json:"level"`
	Revision int    `json:"revision"`
}

type attributes struct {
	Manufacturer string `json:"manufacturer"`
	Version      string `json:"version"`
	Model        string `json:"model"`
}

type features struct {
	RSAKeySizes []int
}

type info struct {
	Specification *specification `json:"TPMSpecification,omitempty"`
	Attributes    *attributes    `json:"TPMAttributes,omitempty"`
	Features      *features      `json:"TPMFeatures,omitempty"`
}

// Info describes the TPM as JSON, in the words of libtpms; flags choose the
// parts. Flags that are not known choose nothing.
func Info(flags uint64) []byte {
	var i info
	if flags&InfoSpecification != 0 {
		i.Specification = &specification{specFamily, specLevel, specRevision}
	}
	if flags&InfoAttributes != 0 {
		i.Attributes = &attributes{manufacturerID, firmwareVersion, "swtpm"}
	}
	if flags&InfoFeatures != 0 {
		i.Features = &features{RSAKeySizes}
	}
	b, err := json.Marshal(i)
	if err != nil { // cannot happen: strings and integers only
		return []byte("{}")
	}
	return b
}

// RSAKeySizes are the sizes in bits of the RSA keys that can be made.
var RSAKeySizes = []int{2048, 3072}

const (
	manufacturerID  = "id:00001014" // IBM's PCI vendor, as libtpms reports it
	firmwareVersion = "id:20191023"
)
