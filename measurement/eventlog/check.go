package eventlog

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Binding says what ties an event's data to its digests.
type Binding uint8

// The bindings.
const (
	Unbound    Binding = iota // the digest is of something else: the data only describes it
	Bound                     // the digest is of the data, or of the part that the type says
	Mismatched                // the type says that the digest is of the data, and it is not
)

// String gives "unbound", "bound" or "mismatched".
func (b Binding) String() string {
	return [...]string{"unbound", "bound", "mismatched"}[min(b, Mismatched)]
}

// mustBind lists the types whose digest the specification defines as that of
// the data (PFP, tables 27 and 28).
func (t EventType) mustBind() bool {
	switch t {
	case Separator, Action, EFIAction, EFIVariableDriverConfig, EFIVariableAuthority,
		EFIVariableBoot2, EFIGPTEvent:
		return true
	}
	return false
}

// candidates gives, likeliest first, what writers of the event's type hash.
func candidates(e *Event) [][]byte {
	list := [][]byte{e.Data}
	if e.Type.IsVariable() {
		// EV_EFI_VARIABLE_BOOT hashes the content alone, and some firmware does
		// so for the others.
		if v, err := ParseVariable(e.Data); err == nil {
			list = append(list, v.Data)
		}
		return list
	}
	if e.Type == EventTag {
		if _, body, ok := tagged(e.Data); ok {
			list = append(list, body)
		}
	}
	if _, text, ok := grubText(e.Data); ok {
		return append(list, []byte(text), []byte(text+"\x00"))
	}
	if e.Type == Separator && len(e.Data) != 4 {
		// A separator that reports a failure hashes the value 1 (PFP, 10.4.1).
		list = append(list, []byte{1, 0, 0, 0})
	}
	if t := trimNUL(e.Data); len(t) != len(e.Data) {
		list = append(list, t)
	}
	if s, ok := asText(e.Data); ok && e.Type == IPL && sectionWords[s] != "" {
		list = append(list, []byte(s+"\x00")) // logged in UTF-16, hashed in ASCII
	}
	return list
}

// BindingOf compares an event's digests with its data. Digests that cannot be
// computed here are left out; where that leaves none, or the event extends
// nothing, the data is unbound.
//
// A bound event proves what was hashed: not the event's type, nor the label
// that a writer puts before it, as GRUB puts "grub_cmd: " before a command.
func BindingOf(e *Event) Binding {
	if !e.Extends() || !computable(e) {
		return Unbound
	}
	for _, c := range candidates(e) {
		if digestsOf(e, c) {
			return Bound
		}
	}
	if e.Type.mustBind() {
		return Mismatched
	}
	return Unbound
}

// BindingIn is BindingOf by the digest of one bank, the one that a quote proves;
// what the log says of other banks does not count.
func BindingIn(e *Event, alg tpm2.AlgID) Binding {
	for i := range e.Digests {
		if e.Digests[i].Alg == alg {
			one := *e
			one.Digests = e.Digests[i : i+1]
			return BindingOf(&one)
		}
	}
	return Unbound
}

// computable tells whether any of the event's digests can be computed here.
func computable(e *Event) bool {
	for _, d := range e.Digests {
		if d.Alg.DigestSize() != 0 {
			return true
		}
	}
	return false
}

// digestsOf tells whether all digests that can be computed here are of data.
func digestsOf(e *Event, data []byte) bool {
	for _, d := range e.Digests {
		if d.Alg.DigestSize() == 0 {
			continue
		}
		var out [tpm2.MaxDigestSize]byte
		sum(d.Alg, out[:], data)
		if !bytes.Equal(out[:len(d.Value)], d.Value) {
			return false
		}
	}
	return true
}

// Severity ranks a Finding.
type Severity uint8

// The severities.
const (
	// Note: worth knowing, proves nothing bad.
	Note Severity = iota
	// Doubt: the event's data is not what its digest says. Firmware exists that
	// logs so; the data must not be trusted.
	Doubt
	// Malformed: the data breaks its own format, which no honest writer does.
	Malformed
)

// String gives "note", "doubt" or "malformed".
func (s Severity) String() string {
	return [...]string{"note", "doubt", "malformed"}[min(s, Malformed)]
}

// MarshalText gives the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that Check saw.
type Finding struct {
	Event    int       `json:"event"` // number, 0 for the log as a whole
	PCR      uint32    `json:"pcr"`
	Type     EventType `json:"-"`
	Severity Severity  `json:"severity"`
	Text     string    `json:"text"` // one sentence that names the event
}

// Check looks into the events: structures that break their format, data that
// its digest does not cover although the type says so, banks with holes, and
// events no PCR holds. A log with a Malformed finding should be refused.
func (l *Log) Check() []Finding {
	var list []Finding
	for i := range l.Events {
		e := &l.Events[i]
		if err := wellFormed(e); err != nil {
			list = append(list, finding(e, Malformed, err.Error()))
			continue
		}
		if e.PCR >= NumPCRs && e.Type != NoAction {
			list = append(list, finding(e, Note, fmt.Sprintf("it is logged under PCR %d, which does not exist", e.PCR)))
		}
		if e.Type.mustBind() && BindingOf(e) == Mismatched {
			list = append(list, finding(e, Doubt, "its digest is not that of the data in the log"))
		}
	}
	for _, alg := range l.Banks() {
		n := 0
		for i := range l.Events {
			if e := &l.Events[i]; e.Extends() && e.Digest(alg) == nil {
				n++
			}
		}
		if n > 0 {
			list = append(list, Finding{Severity: Note, Text: fmt.Sprintf(
				"%d events that change a PCR have no %s digest: the %s bank may not replay", n, alg, alg)})
		}
	}
	return list
}

func finding(e *Event, s Severity, text string) Finding {
	return Finding{e.Number, e.PCR, e.Type, s, fmt.Sprintf(
		"event %d (%s, PCR %d) at offset 0x%x: %s", e.Number, e.Type, e.PCR, e.Offset, text)}
}

// wellFormed checks the structures whose lengths say themselves whether they
// are whole.
func wellFormed(e *Event) error {
	if e.Type.IsVariable() {
		_, err := ParseVariable(e.Data)
		return err
	}
	switch e.Type {
	case EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver:
		_, err := ParseImage(e.Data)
		return err
	}
	return nil
}

// SecureBoot tells whether the firmware enforced Secure Boot, from the
// variable's measurement into PCR 7 where its digest is of the variable with
// its name. stated is false where no such event precedes PCR 7's separator, which
// counts by its digest, whatever type the log gives it, or where the log states
// it twice and differently.
func (l *Log) SecureBoot() (enabled, stated bool) {
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 7 {
			continue
		}
		if e.Type == Separator || separates(e) {
			break
		}
		if e.Type != EFIVariableDriverConfig {
			continue
		}
		v, err := ParseVariable(e.Data)
		if err != nil || v.Name != "SecureBoot" || v.GUID.String() != guidGlobalVariable || !computable(e) || !digestsOf(e, e.Data) {
			continue
		}
		on := len(v.Data) == 1 && v.Data[0] == 1
		if stated && on != enabled {
			return false, false
		}
		enabled, stated = on, true
	}
	return enabled, stated
}

// CommandLines gives the texts of kernel command lines that the log holds and
// whose digest proves them, in order: GRUB's and systemd-stub's. The kernel's
// own EFI stub logs no text. That they are command lines is the log's word:
// compare digests to be sure.
func (l *Log) CommandLines() []string {
	var list []string
	for i := range l.Events {
		e := &l.Events[i]
		if e.Type != IPL || StageOf(e) != StageCommandLine || BindingOf(e) != Bound {
			continue
		}
		if _, text, ok := grubText(e.Data); ok {
			list = append(list, clean(text))
		} else if s, ok := asText(e.Data); ok && !strings.HasPrefix(s, ".") {
			list = append(list, s)
		}
	}
	return list
}

// CommandLine is a kernel command line in the forms that boot software hashes,
// to be looked for in a log. It is not safe for concurrent use.
type CommandLine struct {
	forms   [][]byte
	digests map[tpm2.AlgID][][]byte // computed when first asked for
}

// NewCommandLine takes a command line as /proc/cmdline shows it, without the
// line's end.
func NewCommandLine(text string) *CommandLine {
	units := utf16.Encode([]rune(text))
	wide := make([]byte, 0, 2*len(units)+2)
	for _, u := range append(units, 0) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	return &CommandLine{[][]byte{wide, wide[:len(wide)-2], []byte(text), []byte(text + "\x00")}, map[tpm2.AlgID][][]byte{}}
}

// Matches tells whether the event is a measurement of exactly this command
// line. It confirms the text that the kernel's EFI stub and systemd-stub leave
// out of the log: both hash it in UTF-16 with a NUL.
func (c *CommandLine) Matches(e *Event) bool {
	found := false
	for _, d := range e.Digests {
		if d.Alg.DigestSize() == 0 {
			continue
		}
		if c.digests[d.Alg] == nil {
			for _, form := range c.forms {
				c.digests[d.Alg] = append(c.digests[d.Alg], d.Alg.Digest(form))
			}
		}
		if !slices.ContainsFunc(c.digests[d.Alg], func(x []byte) bool { return bytes.Equal(x, d.Value) }) {
			return false
		}
		found = true
	}
	return found
}

// MatchesCommandLine is NewCommandLine and Matches for a single event.
func MatchesCommandLine(e *Event, cmdline string) bool { return NewCommandLine(cmdline).Matches(e) }

// separators are what a separator's digest is of (PFP, section 10.4.1): the end
// of the firmware's measurements, or an error.
var separators = [][]byte{{0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {1, 0, 0, 0}}

// separates tells by the digests, as the type is not proven, whether the event
// may be a separator.
func separates(e *Event) bool {
	return slices.ContainsFunc(separators, func(data []byte) bool { return computable(e) && digestsOf(e, data) })
}
