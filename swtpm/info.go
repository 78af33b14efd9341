package swtpm

import (
	"bytes"
	"encoding/json"

	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Flags of GET_INFO and --print-info.
const (
	InfoSpecification uint64 = 1 << 0
	InfoAttributes    uint64 = 1 << 1
	InfoFeatures      uint64 = 1 << 2
	InfoAlgorithms    uint64 = 1 << 3
	InfoCommands      uint64 = 1 << 4
	InfoProfile       uint64 = 1 << 5 // the one in force
	InfoProfiles      uint64 = 1 << 6 // those that can be chosen by name
	InfoRules         uint64 = 1 << 7 // libtpms' runtime attributes

	InfoHistory uint64 = 1 << 32 // what has become of the state; swtpm has none
)

// specification and attributes are what an EK certificate says of the TPM; a
// test compares them with what TPM2_GetCapability answers.
type specification struct {
	Family   string `json:"family"`
	Level    uint32 `json:"level"`
	Revision uint32 `json:"revision"`
}

type attributes struct {
	Manufacturer string `json:"manufacturer"`
	Version      string `json:"version"`
	Model        string `json:"model"`
}

type features struct {
	RSAKeySizes      []uint16
	CamelliaKeySizes []uint16 `json:",omitempty"`
}

type history struct {
	Reverts uint32 // times that an older state took the place of a newer one
}

type info struct {
	Specification *specification `json:"TPMSpecification,omitempty"`
	Attributes    *attributes    `json:"TPMAttributes,omitempty"`
	Features      *features      `json:"TPMFeatures,omitempty"`

	Algorithms *tpm.Choice       `json:"RuntimeAlgorithms,omitempty"`
	Commands   *tpm.Choice       `json:"RuntimeCommands,omitempty"`
	Rules      *tpm.Choice       `json:"RuntimeAttributes,omitempty"`
	Profile    json.RawMessage   `json:"ActiveProfile,omitempty"`
	Profiles   []json.RawMessage `json:"AvailableProfiles,omitempty"`
	History    *history          `json:"StateHistory,omitempty"`
}

// Info describes a TPM with a profile as JSON, in the words of libtpms; flags
// choose the parts. Flags that are not known choose nothing.
func Info(flags uint64, p *tpm.Profile) []byte { return describe(flags, p, info{}) }

// Info describes the TPM as the function does, with its history where it has power.
func (h *Host) Info(flags uint64) []byte {
	var i info
	p := h.Profile()
	h.mu.Lock()
	defer h.mu.Unlock()
	if flags&InfoHistory != 0 && h.engine != nil {
		i.History = &history{h.engine.Reverts()}
	}
	return describe(flags, p, i)
}

// describe fills in what the profile says.
func describe(flags uint64, p *tpm.Profile, i info) []byte {
	if flags&InfoSpecification != 0 {
		level, revision, _, _ := p.Specification()
		i.Specification = &specification{"2.0", level, revision}
	}
	if flags&InfoAttributes != 0 {
		i.Attributes = &attributes{manufacturerID, firmwareVersion, "swtpm"}
	}
	if flags&InfoFeatures != 0 {
		i.Features = &features{p.KeySizes(tpm2.AlgRSA), p.KeySizes(tpm2.AlgCamellia)}
	}
	if flags&InfoAlgorithms != 0 {
		c := p.Algorithms()
		i.Algorithms = &c
	}
	if flags&InfoCommands != 0 {
		c := p.Commands()
		i.Commands = &c
	}
	if flags&InfoRules != 0 {
		c := p.Attributes()
		i.Rules = &c
	}
	if flags&InfoProfile != 0 {
		i.Profile = p.JSON()
	}
	if flags&InfoProfiles != 0 {
		for _, p := range tpm.Profiles() {
			i.Profiles = append(i.Profiles, p.JSON())
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)              // as in libtpms
	if err := enc.Encode(i); err != nil { // cannot happen: strings and integers only
		return []byte("{}")
	}
	return bytes.TrimSpace(b.Bytes())
}

const (
	manufacturerID  = "id:00001014" // IBM's PCI vendor, as libtpms reports it
	firmwareVersion = "id:20191023"
)
