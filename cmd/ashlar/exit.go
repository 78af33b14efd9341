package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every verb.
const (
	exitOK      = 0 // it holds, or it is done
	exitRefused = 1 // the answer is no, with the reason
	exitMisuse  = 2 // the question cannot be asked so
)

// refused is an answer, not a mistake: what was examined does not hold.
type refused struct{ reasons []string }

func (r *refused) Error() string { return strings.Join(r.reasons, "\n") }

// refuse ends a verb with exit code 1 and the reasons.
func refuse(reasons ...string) error { return &refused{reasons} }

func exitCode(err error) int {
	var r *refused
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &r):
		return exitRefused
	}
	return exitMisuse
}

// readInput reads a file, or standard input for "-", up to limit bytes.
func readInput(cmd *cobra.Command, path string, limit int64) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, the limit", path, limit)
	}
	return raw, nil
}

// writeJSON writes one indented object.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
