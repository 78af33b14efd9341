package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// tpmProcess is the `swtpm socket` that serves one guest for one boot.
type tpmProcess struct {
	cmd    *exec.Cmd
	socket string
	log    string
	done   chan error
}

// startTPM starts program on the state directory and waits for its control socket
// in the directory sockets. Its log goes to the file log.
func startTPM(ctx context.Context, program, state, sockets, log string) (*tpmProcess, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &tpmProcess{socket: filepath.Join(sockets, "tpm"), log: log, done: make(chan error, 1)}
	// --terminate ends it with QEMU's connection, after a proper TPM2_Shutdown.
	p.cmd = exec.CommandContext(ctx, program, "socket", "--tpm2", "--terminate",
		"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+p.socket)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the guest's TPM does not start: %w", err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(p.socket); err == nil {
			return p, nil
		}
		select {
		case err := <-p.done:
			return nil, p.failure(fmt.Errorf("%s ended before it served: %w", program, orExit(err)))
		default:
		}
		if time.Now().After(end) {
			p.kill()
			return nil, p.failure(fmt.Errorf("%s did not open its control socket in 10 s", program))
		}
	}
}

// wait gives the process time to end by itself, which it does once QEMU is gone, so
// that the next boot finds its state written and unlocked.
func (p *tpmProcess) wait() error {
	select {
	case err := <-p.done:
		if err != nil {
			return p.failure(err)
		}
		return nil
	case <-time.After(10 * time.Second):
		p.kill()
		return p.failure(errors.New("it did not end with the guest"))
	}
}

func (p *tpmProcess) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may be gone already
	<-p.done
}

// failure adds what the TPM last wrote.
func (p *tpmProcess) failure(err error) error {
	out, _ := os.ReadFile(p.log)
	if line := lastLine(out); line != "" {
		return fmt.Errorf("the guest's TPM: %w: %s", err, line)
	}
	return fmt.Errorf("the guest's TPM: %w", err)
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
