package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	// idleAfter is when a program has had the time to give back what it used.
	idleAfter = 5 * time.Second
	// privateAim is what a process may have for itself, in KiB.
	privateAim = 4096
)

// memory is what a process has, in KiB: what is resident; of that its share, where
// other processes have the same; and what no other has, such as another one of the same
// program.
type memory struct{ resident, share, private float64 }

// memory reads the memory of the process. Ours shows it to root alone.
func (s *side) memory() memory {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(s.process.cmd.Process.Pid), "smaps_rollup"))
	if os.IsPermission(err) {
		return memory{}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	field := func(key string) (n float64) {
		_, rest, _ := strings.Cut(string(b), "\n"+key)
		if _, err := fmt.Sscan(rest, &n); err != nil {
			s.t.Fatalf("%s: %v", key, err)
		}
		return n
	}
	return memory{field("Rss:"), field("Pss:"), field("Private_Clean:") + field("Private_Dirty:")}
}

func memoryRows(name string, ours, theirs memory) []result {
	return []result{
		{name + " (KiB)", "", 1, ours.resident, theirs.resident},
		{"  its share of that", "", 1, ours.share, theirs.share},
		{privateRow, "", 1, ours.private, theirs.private},
	}
}

const (
	privateRow  = "  private"
	benchMemory = "memory after all that"
)

// boot sends what OVMF and a Linux kernel send, in their number and kind.
func (s *side) boot() {
	digests := []tpm2.TPMTHA{
		{HashAlg: tpm2.TPMAlgSHA1, Digest: make([]byte, 20)},
		{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)},
		{HashAlg: tpm2.TPMAlgSHA384, Digest: make([]byte, 48)},
		{HashAlg: tpm2.TPMAlgSHA512, Digest: make([]byte, 64)},
	}
	if _, err := s.data.Send([]byte{0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x43, 1}); err != nil { // SelfTest
		s.t.Fatal(err)
	}
	for range 60 {
		execute(s, tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: 0x100, PropertyCount: 16})
	}
	for i := range 30 {
		execute(s, tpm2.PCRExtend{PCRHandle: auth(tpm2.TPMHandle(i%10), tpm2.TPM2BName{}),
			Digests: tpm2.TPMLDigestValues{Digests: digests}})
		execute(s, tpm2.PCRRead{PCRSelectionIn: pcrSelection(uint(i % 10))})
	}
	for range 7 {
		execute(s, tpm2.GetRandom{BytesRequested: 32})
	}
	execute(s, tpm2.HierarchyChangeAuth{AuthHandle: auth(tpm2.TPMRHPlatform, tpm2.TPM2BName{}),
		NewAuth: tpm2.TPM2BAuth{Buffer: make([]byte, 32)}})
}

// benchBoot measures the memory of programs whose guest has started and is quiet.
func benchBoot(pair []*side) []result {
	for _, s := range pair {
		s.start()
		s.boot()
	}
	time.Sleep(idleAfter)
	rows := memoryRows("memory after a guest's boot", pair[0].memory(), pair[1].memory())
	for _, s := range pair {
		s.end()
	}
	return rows
}

// printPrivate says whether what a process has for itself is little enough wherever
// it was measured, but for the moment after a workload.
func printPrivate(both [2][]result) {
	var most float64
	for _, results := range both {
		name := ""
		for _, r := range results {
			switch {
			case !strings.HasPrefix(r.name, " "):
				name = r.name
			case r.name == privateRow && !strings.HasPrefix(name, benchMemory):
				most = max(most, r.ours)
			}
		}
	}
	verdict := "yes"
	if most > privateAim {
		verdict = "no"
	}
	fmt.Printf("private memory of a process at most %d KiB, at the start and when idle: %s, %.0f KiB\n", privateAim, verdict, most)
}
