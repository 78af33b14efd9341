package demo

import (
	"encoding/json"
	"path/filepath"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
)

// jsonBoot is one boot in demo.json.
type jsonBoot struct {
	Name           string        `json:"name"`
	Verdict        string        `json:"verdict"`
	Reasons        []string      `json:"reasons"`
	PCRs           eventlog.PCRs `json:"pcrs"`
	EventLog       string        `json:"eventlog"`
	IMA            string        `json:"ima"`
	Quote          string        `json:"quote"`
	Signature      string        `json:"signature"` // the quote's, and the key that made it
	Key            string        `json:"key"`
	SecretReleased bool          `json:"secretReleased"`
	Nonce          string        `json:"nonce"`
	Qualifying     string        `json:"qualifyingData"` // what the quote signs: rats.BindKey(nonce, attester's key)
}

// resultJSON gives the demo's result as one object.
func resultJSON(boots []*boot) ([]byte, error) {
	out := struct {
		Boots []jsonBoot `json:"boots"`
	}{Boots: []jsonBoot{}}
	for _, b := range boots {
		reasons := b.Reasons
		if reasons == nil {
			reasons = []string{}
		}
		out.Boots = append(out.Boots, jsonBoot{
			Name: b.Name, Verdict: b.Verdict, Reasons: reasons, PCRs: b.PCRs,
			EventLog: b.EventLog, IMA: b.IMA, Quote: b.Quote,
			Signature: beside(b.Quote, fileSig), Key: beside(b.Quote, fileAK), SecretReleased: b.SecretReleased,
			Nonce: b.Nonce, Qualifying: b.Qualifying,
		})
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// beside gives the path of another file in the directory of a file.
func beside(path, name string) string { return filepath.Join(filepath.Dir(path), name) }
