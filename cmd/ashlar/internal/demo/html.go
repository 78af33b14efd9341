package demo

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

//go:embed demo.html.tmpl
var pageText string

// page is what the template shows: the boots as columns, and rows of cells with one
// cell for each boot.
type page struct {
	Kernel string
	Made   string
	Boots  []*boot
	Diffs  []row // measurements that are not the same in every boot
	Stages []stageRows
	PCRs   []row
}

// stageRows is one stage of the boot with all its measurements.
type stageRows struct {
	Name  string
	PCRs  string
	Rows  []row
	Cells []cell // the stage as a whole, one cell for each boot
}

// row is one measurement, or one PCR, over all boots.
type row struct {
	PCR   string
	What  string
	Cells []cell
}

// cell is what one boot had there; an empty digest means that it had nothing.
type cell struct {
	Digest string
	Same   bool   // as in the first boot
	Other  string // what was measured, where the words are not the row's
}

// Short is the beginning of the digest, enough to see whether two are equal.
func (c cell) Short() string { return c.Digest[:min(len(c.Digest), 12)] }

// writeHTML writes the page that shows the boots side by side. It refers to nothing
// outside itself.
func writeHTML(path, kernel, made string, boots []*boot) error {
	tmpl, err := template.New("page").Parse(pageText)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, newPage(kernel, made, boots)); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}

func newPage(kernel, made string, boots []*boot) *page {
	p := &page{Kernel: kernel, Made: made, Boots: boots}
	for _, stage := range stagesOf(boots) {
		rows, all := measurementRows(stage, boots)
		p.Stages = append(p.Stages, stageRows{stage, pcrsOf(all), rows, summarize(rows, len(boots))})
		for _, r := range rows {
			if slices.ContainsFunc(r.Cells, func(c cell) bool { return !c.Same }) {
				p.Diffs = append(p.Diffs, r)
			}
		}
	}
	for pcr := range lastPCR + 1 {
		r := row{PCR: strconv.Itoa(pcr)}
		for _, b := range boots {
			r.add(hex.EncodeToString(b.PCRs[shownBank][pcr]))
		}
		p.PCRs = append(p.PCRs, r)
	}
	return p
}

// add appends the next boot's cell.
func (r *row) add(digest string) {
	same := len(r.Cells) == 0 || r.Cells[0].Digest == digest
	r.Cells = append(r.Cells, cell{Digest: digest, Same: same})
}

// quoted is the text in a measurement's words that may differ between boots, such as
// the kernel's command line.
var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// measurementRows lines the boots' measurements of a stage up by PCR and by the kind of
// thing that was measured, and by count where that comes more than once. It also gives
// them as one list.
func measurementRows(stage string, boots []*boot) (rows []row, all []scheme.Measurement) {
	place := map[string]int{} // of each row
	for i, b := range boots {
		seen := map[string]int{}
		for _, m := range b.during(stage) {
			if m.Number == 0 {
				continue // listed, but not measured in this boot
			}
			all = append(all, m)
			base := fmt.Sprintf("%d %s", m.PCR, quoted.ReplaceAllString(m.What, ""))
			seen[base]++
			key := fmt.Sprintf("%s %d", base, seen[base])
			at, ok := place[key]
			if !ok {
				at = len(rows)
				place[key] = at
				rows = append(rows, row{PCR: strconv.Itoa(m.PCR), What: m.What, Cells: make([]cell, len(boots))})
			}
			rows[at].Cells[i].Digest = bare(m.Digest)
			if m.What != rows[at].What {
				rows[at].Cells[i].Other = m.What
			}
		}
	}
	for _, r := range rows {
		for i := range r.Cells {
			r.Cells[i].Same = r.Cells[i].Digest == r.Cells[0].Digest
		}
	}
	return rows, all
}

// summarize says for each boot whether every measurement of the rows is the same as
// in the first boot.
func summarize(rows []row, boots int) []cell {
	out := make([]cell, boots)
	for i := range out {
		out[i].Same = !slices.ContainsFunc(rows, func(r row) bool { return !r.Cells[i].Same })
	}
	return out
}
