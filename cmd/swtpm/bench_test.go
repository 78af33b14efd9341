package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
}

// benchAll measures everything, with two processes of its own.
func benchAll(t testing.TB, program, dir string) []result {
	ours := &side{t: t, name: "ours", program: program, dir: dir + "a"}
	theirs := &side{t: t, name: "swtpm", program: "swtpm", dir: dir + "b"}
	pair := []*side{ours, theirs}
	for _, s := range pair { // a host has many of them, which share the program
		neighbour := &side{t: t, name: s.name, program: s.program, dir: s.dir + "n"}
		neighbour.start()
		defer neighbour.end()
	}
	results := benchSpawn(pair)
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
	for _, s := range pair {
		s.memory()
		s.end()
	}
	return append(results, result{"memory after all that (KiB)", "", 1, ours.rss, theirs.rss},
		result{"  private", "", 1, ours.private, theirs.private})
}

// benchSpawn measures the time from the start of the process to the answer
// to its first command, on a state that exists, and the memory it has then.
func benchSpawn(pair []*side) []result {
	const runs = 15
	var spent [2][]float64
	var memory, private [2][]float64
	for run := range runs + 1 {
		for i, s := range pair {
			before := time.Now()
			s.start()
			d := time.Since(before)
			s.memory()
			s.end()
			if run > 0 { // the first makes the state
				spent[i] = append(spent[i], d.Seconds()*1e6)
				memory[i], private[i] = append(memory[i], s.rss), append(private[i], s.private)
			}
		}
	}
	return []result{
		{"start to first answer (us)", "", runs, median(spent[0]), median(spent[1])},
		{"memory at start (KiB)", "", runs, median(memory[0]), median(memory[1])},
		{"  private", "", runs, median(private[0]), median(private[1])},
	}
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

// memory reads the memory of the process in KiB: what is resident, and what of that
// no other process has, such as another one of the same program: 0 for who is not
// root, since ours shows that to nobody else.
func (s *side) memory() {
	s.rss = s.inProc("status", "VmRSS:")
	s.private = s.inProc("smaps_rollup", "Private_Clean:") + s.inProc("smaps_rollup", "Private_Dirty:")
}

// inProc reads a number from one of the process's files in /proc.
func (s *side) inProc(file, key string) (n float64) {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(s.process.cmd.Process.Pid), file))
	switch {
	case os.IsPermission(err):
		return 0
	case err != nil:
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), key)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		s.t.Fatalf("%s in %s: %v", key, file, err)
	}
	return n
}
