package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// with is another TPM on the same side, with options of its own.
func (s *side) with(name string, options ...string) *side {
	return &side{t: s.t, name: s.name, program: s.program, dir: s.dir + name, options: options}
}

// underKey gives the option by which a state is encrypted under a key.
func (s *side) underKey() []string {
	return []string{"--key", "file=" + s.secret("key-file", strings.Repeat("0f", 32)) + ",mode=aes-256-cbc"}
}

// underPassphrase gives the options with which libvirt starts an encrypted TPM.
func (s *side) underPassphrase() []string {
	phrase := "pwdfile=" + s.secret("phrase-file", "a passphrase") + ",mode=aes-256-cbc"
	return []string{"--key", phrase, "--migration-key", phrase}
}

func (s *side) secret(name, content string) string {
	path := s.dir + name
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// benchKeys measures what encryption costs at the start, and where a state is written.
func benchKeys(pair []*side) []result {
	var key, phrase []*side
	for _, s := range pair {
		key = append(key, s.with("key", s.underKey()...))
		phrase = append(phrase, s.with("phrase", s.underPassphrase()...))
	}
	// A passphrase is to cost who guesses it: there is no aim.
	results := append(benchSpawn(key, ", key", cheap)[:1], benchSpawn(phrase, ", passphrase", "")...)
	for _, s := range phrase {
		s.start()
		s.prepareNV()
	}
	write := benchStage(phrase[0], phrase[1])[0]
	write.name = strings.Replace(write.name, " (us)", ", passphrase (us)", 1)
	for _, s := range phrase {
		s.end()
	}
	return append(results, write)
}

// benchStates measures what QEMU does with states in a migration: it takes both from
// one process, and gives them to another, which goes on from them.
func benchStates(pair []*side) (results []result) {
	for _, kind := range []struct {
		name    string
		full    bool
		options func(*side) []string
	}{
		{"small", false, func(*side) []string { return nil }},
		{"full", true, func(*side) []string { return nil }},
		{"small, passphrase", false, (*side).underPassphrase},
		{"full, passphrase", true, (*side).underPassphrase},
	} {
		var sources, targets []*side
		place := strings.ReplaceAll(kind.name, ", ", "-")
		for _, s := range pair {
			sources = append(sources, s.with("-from-"+place, kind.options(s)...))
			targets = append(targets, s.with("-to-"+place, kind.options(s)...))
		}
		aim := cheap
		if len(sources[0].options) > 0 {
			aim = ""
		}
		results = append(results, benchMoves(sources, targets, kind.full, kind.name, aim)...)
	}
	return results
}

// benchMoves measures one kind of state. The targets' derivation of a key has no aim.
func benchMoves(sources, targets []*side, full bool, name, aim string) []result {
	for _, s := range sources {
		s.start()
		s.boot()
		if full {
			s.fill()
		}
	}
	const runs = 12
	var spent [3][2][]float64 // get, set, resume
	for range runs {
		for i, s := range sources {
			for step, d := range s.moveTo(targets[i]) {
				spent[step][i] = append(spent[step][i], d.Seconds()*1e6)
			}
		}
	}
	for _, s := range sources {
		s.end()
	}
	row := func(step int, what, aim string) result {
		return result{what + " " + name + " (us)", aim, runs, median(spent[step][0]), median(spent[step][1])}
	}
	return []result{row(0, "states taken,", cheap), row(1, "states given,", aim), row(2, "INIT of states,", cheap)}
}

// moveTo takes the states of a TPM and makes another one go on from them, which ends.
func (s *side) moveTo(target *side) (spent [3]time.Duration) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", s.name, err, target.process.errs)
		}
	}
	target.connect()
	from, to := swtpm.NewClient(s.ctrl), swtpm.NewClient(target.ctrl)
	began := time.Now()
	permanent, err := from.StateBlob(swtpm.BlobPermanent)
	must(err)
	volatile, err := from.StateBlob(swtpm.BlobVolatile)
	must(err)
	spent[0] = time.Since(began)
	began = time.Now()
	must(to.SetStateBlob(swtpm.BlobPermanent, permanent))
	must(to.SetStateBlob(swtpm.BlobVolatile, volatile))
	spent[1] = time.Since(began)
	began = time.Now()
	target.control(initialize, nil, 4)
	spent[2] = time.Since(began)
	must(os.RemoveAll(target.dir)) // which the process does not know
	target.process.kill()
	target.ctrl.Close()
	return spent
}

// printDisk says what it takes on this disk to keep two states that come in, of which
// swtpm leaves out the waiting.
func printDisk(t testing.TB, dir string) {
	const runs, size = 15, 64 << 10
	var spent []float64
	for range runs {
		began := time.Now()
		for _, name := range []string{"permanent", "volatile"} {
			if err := makeDurable(dir, name, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		spent = append(spent, time.Since(began).Seconds()*1e6)
		for _, name := range []string{"permanent", "volatile"} {
			os.Remove(join(dir, name))
		}
	}
	fmt.Printf("two new files of %d KiB are durable on this disk after %.0f us: for that ours waits where states are given to it, and swtpm does not\n",
		size>>10, median(spent))
}

// makeDurable makes a file that is there after a power cut, and whole.
func makeDurable(dir, name string, content []byte) error {
	f, err := os.Create(join(dir, name+".tmp"))
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	d, e := os.Open(dir)
	err = errors.Join(err, f.Sync(), f.Close(), os.Rename(f.Name(), join(dir, name)), e)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// fill makes a TPM hold as much as it can: its NV, its objects and its sessions.
func (s *side) fill() {
	s.t.Helper()
	const size, part = 2048, 1024
	for index := tpm2.TPMHandle(0x01800100); ; index++ {
		_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
			Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, NT: tpm2.TPMNTOrdinary},
		})}.Execute(s.data)
		if err != nil {
			break // TPM_RC_NV_SPACE
		}
		name := tpm2.TPM2BName{Buffer: []byte{0}}
		for offset := 0; offset < size; offset += part {
			execute(s, tpm2.NVWrite{AuthHandle: auth(index, name), NVIndex: tpm2.NamedHandle{Handle: index, Name: name},
				Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, part)}, Offset: uint16(offset)})
		}
	}
	_, parent := s.primary(tpm2.ECCSRKTemplate)
	s.child(parent, tpm2.Create{InPublic: tpm2.New2B(rsaSigner(false))})
	s.child(parent, tpm2.Create{InPublic: tpm2.New2B(eccSigner(false))})
	const active = 64
	for i := range active {
		session, _ := execute(s, tpm2.StartAuthSession{
			TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, SessionType: tpm2.TPMSEHMAC,
			NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, 16)},
			Symmetric:   tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}, AuthHash: tpm2.TPMAlgSHA256,
		})
		if i < active-3 {
			execute(s, tpm2.ContextSave{SaveHandle: session.SessionHandle})
		}
	}
}
