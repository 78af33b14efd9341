package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"

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
			return nil, cannotRead(path, err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, cannotRead(path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, the most that is read", path, limit)
	}
	return raw, nil
}

// cannotRead names a file once, where the system's error would again.
func cannotRead(path string, err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("cannot read %s: %w", path, err)
}

// one wants exactly one argument, and calls it what the usage line does.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return fmt.Errorf("%s is missing: %s", what, cmd.UseLine())
		}
		return fmt.Errorf("%q is one too many: %s", args[1], cmd.UseLine())
	}
}

// writeJSON writes one indented object, in which characters that a terminal may
// act on are escaped: evidence comes from machines that may be hostile.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escaped(b.String(), func(r rune) string {
		out := ""
		for _, u := range utf16.Encode([]rune{r}) {
			out += fmt.Sprintf(`\u%04x`, u)
		}
		return out
	}))
	return err
}

// plain escapes what does not print, line breaks but not the spaces of a text.
func plain(s string) string {
	return escaped(strings.ReplaceAll(s, "\n", " "), func(r rune) string { return fmt.Sprintf(`\x%02x`, r) })
}

// escaped replaces each character that neither prints nor breaks a line.
func escaped(s string, escape func(rune) string) string {
	harmless := func(r rune) bool { return r == '\n' || unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if harmless(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(escape(r))
		}
	}
	return b.String()
}

// jsonNote adds --json to a verb whose output is JSON in any case, so that it can
// be given to every verb.
func jsonNote(cmd *cobra.Command) {
	cmd.Flags().Bool("json", true, "write JSON, as it always does")
}
