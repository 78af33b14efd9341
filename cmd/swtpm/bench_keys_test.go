package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkKeys measures what encryption costs: this swtpm with a state in clear,
// under a key and under a passphrase, and Debian's under a passphrase, interleaved:
//
//	go test -run '^$' -bench Keys -benchtime 1x ./cmd/swtpm
func BenchmarkKeys(t *testing.B) {
	needTools(t, "swtpm")
	dir := shortDir(t)
	program := join(dir, "ashlar-swtpm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	key, secret := join(dir, "key"), join(dir, "secret")
	os.WriteFile(key, []byte(strings.Repeat("0f", 32)), 0o600)
	os.WriteFile(secret, []byte("a passphrase"), 0o600)
	phrase := []string{"--key", "pwdfile=" + secret + ",mode=aes-256-cbc", "--migration-key", "pwdfile=" + secret + ",mode=aes-256-cbc"}
	sides := []*side{
		{t: t, name: "clear", program: program, dir: join(dir, "1")},
		{t: t, name: "key", program: program, dir: join(dir, "2"), options: []string{"--key", "file=" + key + ",mode=aes-256-cbc"}},
		{t: t, name: "passphrase", program: program, dir: join(dir, "3"), options: phrase},
		{t: t, name: "swtpm, clear", program: "swtpm", dir: join(dir, "4")},
		{t: t, name: "swtpm, passphrase", program: "swtpm", dir: join(dir, "5"), options: phrase},
	}
	const runs = 15
	spent := make([]map[string][]float64, len(sides))
	for i := range spent {
		spent[i] = map[string][]float64{}
	}
	note := func(i int, what string, v float64) { spent[i][what] = append(spent[i][what], v) }
	for run := range runs + 1 {
		for i, s := range sides {
			before := time.Now()
			s.start()
			d := time.Since(before)
			s.memory()
			s.end()
			if run > 0 { // the first makes the state
				note(i, "start to first answer (us)", d.Seconds()*1e6)
				note(i, "memory at start (KiB)", s.rss)
			}
		}
	}
	for _, s := range sides {
		s.start()
		s.prepareSimple()
		s.prepareNV()
	}
	for n := range 300 {
		for i, s := range sides {
			for k := range s.rows {
				if r := &s.rows[k]; r.name == "PCR_Extend" || r.name == "NV_Write 32" {
					note(i, r.name+" (us)", s.run(r, n).Seconds()*1e6)
				}
			}
		}
	}
	for _, what := range []string{"start to first answer (us)", "memory at start (KiB)", "PCR_Extend (us)", "NV_Write 32 (us)"} {
		for i, s := range sides {
			fmt.Printf("%-28s %-18s %10.0f\n", what, s.name, median(spent[i][what]))
		}
	}
	for _, s := range sides {
		s.end()
	}
}
