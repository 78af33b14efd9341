package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newTPMTakeoverCmd() *cobra.Command {
	var set hostSet
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "takeover [DIR]...",
		Short: "Take over all TPMs of swtpm on a host, or say which can be",
		Long: `Finds the TPMs of swtpm below each DIR, libvirt's where none is named, and takes
each over in its place, as our swtpm would at its next start: swtpm's file is kept,
a failure leaves that TPM as it was, and the others go on. --dry-run says what would
come of each, and changes nothing: it may look at TPMs that run. One that runs goes
over at its next start, and is not touched.

--back makes the TPMs that are Ashlar's those of swtpm again, in their place; none
of them may run. Files that no longer count are kept, with ".old" at their ends.

An encrypted TPM needs its key: --libvirt asks libvirt (virsh) for the secret of each
domain, and for its name; --key names one for all, or with "{uuid}" in a path one for
each domain. It stays encrypted under that key. Root works with the rights of who
owns each directory, so that files have the owners and modes that they had.

Exit code 0: each one is taken over, or goes over at its next start. 1: not each, with
the reasons; or, with --dry-run, not each could be. 2: misuse.`,
		Example: "  ashlar tpm takeover --dry-run\n" +
			"  ashlar tpm takeover --libvirt\n" +
			"  ashlar tpm takeover /srv/tpms --key 'pwdfile=/run/keys/{uuid},mode=aes-256-cbc' --json\n" +
			"  ashlar tpm takeover --back --libvirt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if set.drop && !set.back {
				return errors.New("--drop-saved is for --back")
			}
			if err := set.open(args); err != nil {
				return err
			}
			defer set.close()
			list, err := findTPMs(set.roots)
			if err != nil {
				return refuse(err.Error())
			}
			tell := newProgress(cmd, len(list))
			for _, x := range list {
				if err := cmd.Context().Err(); err != nil {
					return err
				}
				set.settle(x)
				tell.one()
			}
			return set.report(cmd, list, asJSON)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&set.dry, "dry-run", false, "say what would come of each, and change nothing")
	f.BoolVar(&set.back, "back", false, "give the TPMs back to swtpm")
	f.BoolVar(&set.drop, "drop-saved", false, "with --back, leave out what guests have saved by TPM2_Shutdown(STATE)")
	f.BoolVar(&set.libvirt, "libvirt", false, "ask libvirt for the domains' names and secrets")
	f.StringVar(&set.option, "key", "", fmt.Sprintf(keyUsage, "encrypted TPMs")+`; "{uuid}" stands for a domain's`)
	f.BoolVar(&asJSON, "json", false, "write one JSON object")
	return cmd
}

// outcome is what comes of a TPM.
type outcome string

const (
	canGo   outcome = "can" // in a dry run
	done    outcome = "done"
	later   outcome = "later" // it runs, and goes over at its next start
	already outcome = "already"
	refusal outcome = "refused"
)

// words says an outcome of n TPMs.
func (o outcome) words(n int, back bool) string {
	pick := func(one, more string) string {
		if n == 1 {
			return one
		}
		return more
	}
	switch {
	case o == canGo && back:
		return "can be given back"
	case o == canGo:
		return "can be taken over"
	case o == done && back:
		return "given back"
	case o == done:
		return "taken over"
	case o == later:
		return pick("goes", "go") + " over at " + pick("its", "their") + " next start"
	case o == already && back:
		return pick("is", "are") + " swtpm's already"
	case o == already:
		return pick("is", "are") + " Ashlar's already"
	}
	return "refused"
}

// hostTPM is one TPM of a host's set and what comes of it.
type hostTPM struct {
	Path      string   `json:"path"`              // its directory, or its one file
	Domain    string   `json:"domain,omitempty"`  // the UUID in the path
	Name      string   `json:"name,omitempty"`    // libvirt's of the domain
	Program   string   `json:"program,omitempty"` // whose it is: "ashlar", "swtpm"
	Version   string   `json:"version,omitempty"` // of TPM: "1.2", "2.0"
	Profile   string   `json:"profile,omitempty"`
	Encrypted bool     `json:"encrypted"`
	KeyBits   int      `json:"keyBits,omitempty"` // of swtpm's key
	Suspended bool     `json:"suspended"`
	Running   bool     `json:"running"`
	PID       int      `json:"pid,omitempty"` // of who holds its lock, where that is known
	Outcome   outcome  `json:"outcome"`
	State     string   `json:"state,omitempty"`   // the file that counts from now on
	Reasons   []string `json:"reasons,omitempty"` // why it was refused
	Notes     []string `json:"-"`                 // among those of all

	lack error // why it could not be looked at
}

// refuse makes it one that is refused, with a line for each reason.
func (x *hostTPM) refuse(reasons ...string) {
	x.Outcome, x.State = refusal, ""
	for _, r := range reasons {
		if !strings.Contains(r, x.Path+"/") && !strings.Contains(r, x.Path+":") {
			r = x.Path + ": " + r
		}
		x.Reasons = append(x.Reasons, r)
	}
}

// what says in words what TPM it is.
func (x *hostTPM) what() string {
	if x.Program == "" {
		return "?"
	}
	list := []string{x.Program + " " + x.Version}
	if x.Profile != "" {
		list = append(list, "profile "+x.Profile)
	}
	switch {
	case x.KeyBits != 0:
		list = append(list, fmt.Sprintf("encrypted (%d bits)", x.KeyBits))
	case x.Encrypted:
		list = append(list, "encrypted")
	}
	if x.Suspended {
		list = append(list, "suspended")
	}
	switch {
	case x.PID != 0:
		list = append(list, fmt.Sprintf("runs (process %d)", x.PID))
	case x.Running:
		list = append(list, "runs")
	}
	return strings.Join(list, ", ")
}

// report writes what came of all, and refuses where not all went.
func (s *hostSet) report(cmd *cobra.Command, list []*hostTPM, asJSON bool) error {
	counts := make(map[outcome]int)
	var reasons, notes []string
	for _, x := range list {
		counts[x.Outcome]++
		reasons = append(reasons, x.Reasons...)
		for _, n := range x.Notes {
			notes = append(notes, x.Path+": "+n)
		}
	}
	if counts[canGo]+counts[done]+counts[later] != 0 {
		notes = append(notes, s.otherProgram()...)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", plain(n)); err != nil {
			return err
		}
	}
	var err error
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), struct {
			DryRun bool            `json:"dryRun"`
			Back   bool            `json:"back"`
			Found  int             `json:"found"`
			Counts map[outcome]int `json:"counts"`
			TPMs   []*hostTPM      `json:"tpms"`
			Notes  []string        `json:"notes,omitempty"`
		}{s.dry, s.back, len(list), counts, append([]*hostTPM{}, list...), notes})
	} else {
		err = s.table(cmd.OutOrStdout(), list, counts)
	}
	if err == nil && counts[refusal] != 0 {
		err = refuse(reasons...)
	}
	return err
}

// otherProgram notes that the swtpm which a host starts is the other one than the TPMs
// are made for.
func (s *hostSet) otherProgram() []string {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return nil // libvirt may find one elsewhere
	}
	version, err := exec.Command(path, "--version").Output()
	switch ours := bytes.Contains(version, []byte("Ashlar")); {
	case err != nil:
		return nil
	case ours && s.back:
		return []string{path + ", which PATH finds, is Ashlar's: what it starts, it takes over again"}
	case !ours && !s.back:
		return []string{path + ", which PATH finds, is not Ashlar's: what it starts goes on from swtpm's file, and what changes there, Ashlar's has not: have Ashlar's first"}
	}
	return nil
}

// table writes the outcome for people.
func (s *hostSet) table(out io.Writer, list []*hostTPM, counts map[outcome]int) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(out, "No TPM was found in %s.\n", plain(strings.Join(s.roots, ", ")))
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TPM\tWhat it is\tOutcome")
	for _, x := range list {
		who := x.Path
		if x.Name != "" {
			who += " (" + x.Name + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", plain(who), plain(x.what()), x.Outcome.words(1, s.back))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var sum []string
	for _, o := range []outcome{canGo, done, later, already, refusal} {
		if n := counts[o]; n != 0 {
			sum = append(sum, fmt.Sprintf("%d %s", n, o.words(n, s.back)))
		}
	}
	_, err := fmt.Fprintf(out, "\n%d found: %s.\n", len(list), strings.Join(sum, ", "))
	return err
}

// progress tells on a terminal, every two seconds, how many TPMs are done.
type progress struct {
	out    io.Writer // nil where nobody watches
	n, all int
	next   time.Time
}

const progressPause = 2 * time.Second

func newProgress(cmd *cobra.Command, all int) *progress {
	p := &progress{all: all, next: time.Now().Add(progressPause)}
	if f := terminal(cmd.ErrOrStderr()); f != nil {
		p.out = f
	}
	return p
}

func (p *progress) one() {
	p.n++
	if now := time.Now(); p.out != nil && p.n < p.all && now.After(p.next) {
		p.next = now.Add(progressPause)
		fmt.Fprintf(p.out, "%d of %d …\n", p.n, p.all)
	}
}
