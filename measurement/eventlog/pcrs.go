package eventlog

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// MaxPCRsJSON bounds PCR values in JSON, in bytes; four banks take 14 KiB.
const MaxPCRsJSON = 64 << 10

// PCRs are PCR values by bank and index, 0 to 23.
type PCRs map[tpm2.AlgID]map[int][]byte

// MarshalJSON writes {"sha256": {"0": "hex"}}.
func (p PCRs) MarshalJSON() ([]byte, error) {
	out := make(map[string]map[string]string, len(p))
	for alg, bank := range p {
		m := make(map[string]string, len(bank))
		for i, v := range bank {
			m[strconv.Itoa(i)] = hex.EncodeToString(v)
		}
		out[alg.String()] = m
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes: known banks, indices 0 to 23,
// values of the bank's size.
func (p *PCRs) UnmarshalJSON(b []byte) error {
	if len(b) > MaxPCRsJSON {
		return fmt.Errorf("PCR values take %d bytes: at most %d are read", len(b), MaxPCRsJSON)
	}
	var in map[string]map[int]string
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("PCR values are not {bank: {index: hex}}: %w", err)
	}
	*p = PCRs{}
	for name, bank := range in {
		alg, ok := BankByName(name)
		if !ok {
			return fmt.Errorf("there is no PCR bank %.40q", name)
		}
		for i, text := range bank {
			v, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("the value of PCR %d in bank %s is not hexadecimal", i, name)
			}
			if err := p.Set(alg, i, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// Set records one value; it fails for an index above 23, a bank that cannot be
// computed here, and a value that has not the size of the bank.
func (p PCRs) Set(alg tpm2.AlgID, i int, v []byte) error {
	if i < 0 || i >= NumPCRs || alg.DigestSize() == 0 || len(v) != alg.DigestSize() {
		return fmt.Errorf("PCR %d of bank %v has %d bytes: indices 0 to %d and %d bytes are expected", i, alg, len(v), NumPCRs-1, alg.DigestSize())
	}
	if p[alg] == nil {
		p[alg] = map[int][]byte{}
	}
	p[alg][i] = v
	return nil
}

// BankByName finds a bank that can be computed here.
func BankByName(name string) (tpm2.AlgID, bool) {
	for _, a := range tpm2.HashAlgs() {
		if a.String() == name {
			return a, true
		}
	}
	return 0, false
}
