// Package demo tells the story of `ashlar demo`: one virtual machine boots four
// times on our TPM. The first boot gives the reference values; the second proves that
// it is the same and is given its secret; the third with a changed kernel command line
// and the fourth with an unlisted program are refused, with the reason.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
)

// bootTimeout is for one boot with its evidence: many times what it takes on two
// busy cores without KVM.
const bootTimeout = 3 * time.Minute

// Options says how to run the demo.
type Options struct {
	Dir      string // evidence and logs are kept here; what an earlier run left in it is replaced
	HTML     string // path of the page
	JSON     string // path of the result as JSON; "" for none
	Yes      bool   // install missing packages without asking
	TPM      string // the swtpm program
	Attester string // the static ashlar that goes into the guest
	Self     string // how the user calls this program, for the commands to try next
	Device   string // guest.CRB or guest.TIS; "" for the former
	In       io.Reader
	Out      io.Writer // progress, for people
	Result   io.Writer // the result as JSON; may be nil
}

// demo is one run.
type demo struct {
	opt    Options
	tell   *teller
	host   guest.Host
	kernel guest.Kernel
	initrd string
	boots  []*boot
	trust  *trust
}

// Run runs the demo. It gives nil only if everything in the story happened.
func Run(ctx context.Context, opt Options) error {
	d := &demo{opt: opt, tell: &teller{out: opt.Out}}
	d.tell.say("Ashlar demo: one virtual machine boots %d times on Ashlar's own TPM and has to prove what it booted.\n", len(story))
	if err := d.prepare(ctx); err != nil {
		return err
	}
	start := time.Now()
	err := d.tellStory(ctx)
	// A story that went wrong is written down as well: that is when it is read.
	if err := errors.Join(err, d.writeResults()); err != nil {
		return err
	}
	d.tell.say("\nDone in %.0f s: proved, released, and refused twice with the reason. The boots side by side: %s",
		time.Since(start).Seconds(), d.opt.HTML)
	d.tell.say("Try next:")
	for _, command := range d.nextCommands() {
		d.tell.say("  %s", command)
	}
	return nil
}

// tellStory boots the guest once for each scenario.
func (d *demo) tellStory(ctx context.Context) error {
	for i, s := range story {
		d.tell.heading(i+1, len(story), s.title)
		b := &boot{Number: i + 1, Name: s.name, Title: s.title, Cmdline: s.cmdline}
		if err := d.bootOnce(ctx, s, b); err != nil {
			return fmt.Errorf("boot %d (%s): %w", b.Number, b.Name, err)
		}
		d.boots = append(d.boots, b)
		if err := s.check(b); err != nil {
			return fmt.Errorf("boot %d (%s): %w", b.Number, b.Name, err)
		}
	}
	return nil
}

// prepare makes what all boots share: packages, kernel, initramfs and keys.
func (d *demo) prepare(ctx context.Context) error {
	var err error
	if d.host, err = prepareHost(ctx, &d.opt); err != nil {
		return err
	}
	if d.opt.Dir, err = freshDir(d.opt.Dir); err != nil {
		return err
	}
	// Results of an earlier run must not pass for this one's.
	for _, path := range []string{d.opt.HTML, d.opt.JSON} {
		if err := os.Remove(path); err != nil && path != "" && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if _, err := os.Stat(d.opt.TPM); err != nil {
		return fmt.Errorf("there is no TPM to give the guest: %w; make build makes it", err)
	}
	cache, err := guest.CacheDir()
	if err != nil {
		return err
	}
	if d.kernel, err = guest.FetchKernel(ctx, cache); err != nil {
		return err
	}
	d.tell.say("Kernel     %s, unpacked, never installed", d.kernel.Package)
	d.initrd = filepath.Join(d.opt.Dir, "initramfs.gz")
	size, err := writeInitramfs(d.initrd, d.host.Busybox, d.opt.Attester)
	if err != nil {
		return err
	}
	d.tell.say("Initramfs  busybox and the attester, %.1f MB", float64(size)/1e6)
	d.tell.say("TPM        %s, state in %s", d.opt.TPM, filepath.Join(d.opt.Dir, "tpm"))
	d.trust, err = newTrust(d.opt.Dir)
	return err
}

// marker tells a directory of the demo's from one that holds somebody's work.
const marker = "made-by-ashlar-demo"

// freshDir empties the directory of an earlier run, or makes it, and gives its
// absolute path. A directory that the demo did not make is left alone.
func freshDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return "", fmt.Errorf("%s is not empty and was not made by the demo; name another directory with --keep", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, marker), []byte("ashlar demo replaces this directory\n"), 0o644)
}

func writeInitramfs(path, busybox, attester string) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := guest.Initramfs(f, busybox, attester); err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	return size, f.Close()
}

// bootOnce boots the guest as the scenario says, lets it prove itself, and decides.
func (d *demo) bootOnce(ctx context.Context, s scenario, b *boot) error {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	dir := filepath.Join(d.opt.Dir, b.directory())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m, err := guest.Boot(ctx, guest.Config{
		Host: d.host, Kernel: d.kernel.Image, Initrd: d.initrd, Cmdline: s.cmdline, Device: d.opt.Device,
		TPM: d.opt.TPM, TPMState: filepath.Join(d.opt.Dir, "tpm"), Dir: dir,
		Progress: func(stage guest.Stage) { d.tell.step(string(stage), "%s", stageWords[stage]) },
	})
	if err != nil {
		return err
	}
	defer m.Close()
	if s.program != "" {
		if err := d.runUnlisted(ctx, m, s.program); err != nil {
			return err
		}
	}
	if err := d.trust.attest(ctx, m, b, dir, d.tell); err != nil {
		return err
	}
	return m.PowerOff(ctx)
}

var stageWords = map[guest.Stage]string{
	guest.StageFirmware: "OVMF runs and measures",
	guest.StageKernel:   "Linux runs; its image, command line and initramfs are measured",
	guest.StageReady:    "the first program runs; from here every program is measured",
}

// runUnlisted brings a program into the running guest and runs it.
func (d *demo) runUnlisted(ctx context.Context, m *guest.Machine, path string) error {
	if err := m.Put(ctx, path, []byte(unlistedText)); err != nil {
		return err
	}
	status, out, err := m.Run(ctx, "chmod 755 "+path+" && "+path)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("%s did not run (status %d): %s", path, status, out)
	}
	d.tell.step("intruder", "%s runs and says: %s", path, strings.TrimSpace(string(out)))
	return nil
}

// check holds a boot to its scenario: the verdict, the reason, and the secret.
func (s scenario) check(b *boot) error {
	if b.Verdict != s.verdict {
		return fmt.Errorf("the verdict is %s, it should be %s: %s", b.Verdict, s.verdict, strings.Join(b.Reasons, "; "))
	}
	if s.names != "" && !strings.Contains(strings.Join(b.Reasons, "\n"), s.names) {
		return fmt.Errorf("no reason names %q: %s", s.names, strings.Join(b.Reasons, "; "))
	}
	if want := s.verdict == verdictAffirming; b.SecretReleased != want {
		return errors.New("the secret's release does not follow the verdict")
	}
	return nil
}

// writeResults writes the page and, where it is wanted, the JSON.
func (d *demo) writeResults() error {
	made := "Made by ashlar demo on " + time.Now().UTC().Format("2006-01-02 15:04 MST")
	err := writeHTML(d.opt.HTML, d.kernel.Package, made, d.boots)
	text, jsonErr := resultJSON(d.boots)
	err = errors.Join(err, jsonErr)
	if d.opt.JSON != "" {
		err = errors.Join(err, os.WriteFile(d.opt.JSON, text, 0o644))
	}
	if d.opt.Result != nil {
		_, writeErr := d.opt.Result.Write(text)
		err = errors.Join(err, writeErr)
	}
	return err
}
