package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkAgainstDebian runs this swtpm and Debian's interleaved, connected as
// QEMU connects, and prints medians, their ratios, and which aims hold:
//
//	go test -run '^$' -bench . -benchtime 1x ./cmd/swtpm
func BenchmarkAgainstDebian(t *testing.B) {
	needTools(t, "swtpm")
	dir := shortDir(t)
	program := os.Getenv(programVariable)
	fmt.Print(benchHeader)
	var both [2][]result
	t.Run("one", func(t *testing.B) {
		onOneProcessor(t)
		both[0] = benchAll(t, program, join(dir, "1"))
	})
	both[1] = benchAll(t, program, join(dir, "2"))
	printTable(both)
	printAims(both)
	printPrivate(both)
	printDisk(t, dir)
}

// benchAll measures everything, with two processes of its own.
func benchAll(t testing.TB, program, dir string) []result {
	ours := &side{t: t, name: "ours", program: program, dir: dir + "a"}
	theirs := &side{t: t, name: "swtpm", program: "swtpm", dir: dir + "b"}
	pair := []*side{ours, theirs}
	for _, s := range pair { // a host has many of them, which share the program
		neighbour := &side{t: t, name: s.name, program: s.program, dir: s.dir + "n"}
		neighbour.start()
		neighbour.boot()
		defer neighbour.end()
	}
	ours.takeOver(theirs)
	results := benchSpawn(pair, "", cheap)
	results = append(results, benchKeys(pair)...)
	results = append(results, benchBoot(pair)...)
	results = append(results, benchStates(pair)...)
	for _, s := range pair {
		s.start()
	}
	for _, stage := range stages {
		stage(ours)
		stage(theirs)
		results = append(results, benchStage(ours, theirs)...)
		ours.clear()
		theirs.clear()
	}
	results = append(results, memoryRows(benchMemory, ours.memory(), theirs.memory())...)
	time.Sleep(idleAfter)
	results = append(results, memoryRows("memory some seconds later", ours.memory(), theirs.memory())...)
	for _, s := range pair {
		s.end()
	}
	return results
}

// takeOver gives a TPM that is not there yet the seeds of another one of swtpm's: the
// same templates give the same keys on both sides then, so that one search for primes
// has no more luck than the other.
func (s *side) takeOver(from *side) {
	from.start()
	from.end()
	const state = "tpm2-00.permall"
	b, err := os.ReadFile(join(from.dir, state))
	if err == nil {
		err = os.MkdirAll(s.dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(join(s.dir, state), b, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// benchSpawn measures the time from the start of the process to the answer
// to its first command, on a state that exists, and the memory it has then. how says
// what they are like.
func benchSpawn(pair []*side, how, aim string) []result {
	const runs = 15
	var spent [2][]float64
	var at [2]memory
	for run := range runs + 1 {
		for i, s := range pair {
			before := time.Now()
			s.start()
			d := time.Since(before)
			at[i] = s.memory()
			s.end()
			if run > 0 { // the first makes the state
				spent[i] = append(spent[i], d.Seconds()*1e6)
			}
		}
	}
	return append([]result{{"start to first answer" + how + " (us)", aim, runs, median(spent[0]), median(spent[1])}},
		memoryRows("memory at start"+how, at[0], at[1])...)
}

const (
	benchPasses = 4                      // over the commands of a stage
	benchTime   = 300 * time.Millisecond // for one command on both sides in a pass
	benchMost   = 1000                   // runs of one command in a pass
	benchLeast  = 12                     // even of a slow one
	benchBlock  = 4                      // runs on one side before the other's turn
)

// benchStage measures the commands of a stage, in several passes.
func benchStage(ours, theirs *side) (results []result) {
	spent := make([][2][]float64, len(ours.rows))
	for range benchPasses {
		for i := range spent {
			benchRow(ours, theirs, i, &spent[i])
		}
	}
	for i := range spent {
		name := ours.rows[i].name
		results = append(results, result{name + " (us)", aimOf(name), len(spent[i][0]), median(spent[i][0]), median(spent[i][1])})
	}
	return results
}

// benchRow measures one command on both sides in turn.
func benchRow(ours, theirs *side, i int, spent *[2][]float64) {
	begin := time.Now()
	for n := 0; n < benchLeast || n < benchMost && time.Since(begin) < benchTime; n += benchBlock {
		for k, s := range []*side{ours, theirs} {
			for range benchBlock {
				spent[k] = append(spent[k], s.run(&s.rows[i], len(spent[k])).Seconds()*1e6)
			}
		}
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// row is one command as bytes, ready to be sent again and again.
type row struct {
	name  string
	cmd   []byte
	flush bool // its response begins with a handle to flush
	vary  int  // four bytes that change from run to run: how far from the end, 0 for none
}

// run sends a row's command and gives the time to its answer.
func (s *side) run(r *row, n int) time.Duration {
	if r.vary > 0 {
		binary.BigEndian.PutUint32(r.cmd[len(r.cmd)-r.vary:], uint32(n)+1)
	}
	before := time.Now()
	rsp, err := s.data.Send(r.cmd)
	d := time.Since(before)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.name, r.name, err)
	}
	if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
		s.t.Fatalf("%s: %s: response code %#x", s.name, r.name, rc)
	}
	if r.flush {
		s.flush(binary.BigEndian.Uint32(rsp[10:]))
	}
	return d
}

func (s *side) flush(handle uint32) {
	cmd := []byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65}
	rsp, err := s.data.Send(binary.BigEndian.AppendUint32(cmd, handle))
	if err != nil || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		s.t.Fatalf("%s: FlushContext: %x %v", s.name, rsp, err)
	}
}
