package guest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"
)

// answerOnly gives a channel whose guest says exactly what in holds, then closes.
func answerOnly(t testing.TB, in string) *Line {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() { host.Close(); guest.Close() })
	go func() {
		io.WriteString(guest, in) //nolint:errcheck // the host may stop reading early
		guest.Close()
	}()
	return NewLine(host)
}

func TestLineRequest(t *testing.T) {
	host, guest := net.Pipe()
	defer host.Close()
	received := make(chan string, 1)
	go func() {
		defer guest.Close()
		var got strings.Builder
		for in := bufio.NewScanner(guest); in.Scan(); {
			got.WriteString(in.Text() + "\n")
			if in.Text() == "." {
				break
			}
		}
		received <- got.String()
		io.WriteString(guest, "aGVs\r\nbG8=\r\n. 3\n") //nolint:errcheck // checked by the host's side
	}()
	body := bytes.Repeat([]byte("0123456789"), 12)
	status, data, err := NewLine(host).request(t.Context(), "put /run/x", body)
	if err != nil || status != 3 || string(data) != "hello" {
		t.Errorf("answer: %d %q %v; want 3 hello", status, data, err)
	}
	lines := strings.Split(<-received, "\n")
	if lines[0] != "put /run/x" || len(lines) != 6 {
		t.Fatalf("request: %q", lines)
	}
	if back, err := base64.StdEncoding.DecodeString(strings.Join(lines[1:4], "")); err != nil || !bytes.Equal(back, body) {
		t.Errorf("body arrived as %q, %v", back, err)
	}
}

func TestLineRefuses(t *testing.T) {
	cases := []struct{ name, in, want string }{
		{"cut", "aGVsbG8=\n", "closed"},
		{"no status", "aGVsbG8=\n. x\n", "status"},
		{"not base64", "!!!\n. 0\n", "base64"},
		{"endless line", strings.Repeat("A", 5*lineMax), "more than 1024 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := answerOnly(t, c.in).answer()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want it to say %q", err, c.want)
			}
		})
	}
	for _, verb := range []string{"run a\nb", `run a\b`, strings.Repeat("x", lineMax+1)} {
		if _, _, err := answerOnly(t, "").request(t.Context(), verb, nil); err == nil || !strings.Contains(err.Error(), "one short line") {
			t.Errorf("request %.10q: %v", verb, err)
		}
	}
}

func TestLineGreetingAfterNoise(t *testing.T) {
	if err := answerOnly(t, "boot noise\nready\n").Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := answerOnly(t, "boot noise\n").Ready(t.Context()); err == nil {
		t.Error("a guest that never greets was taken as ready")
	}
}

func FuzzLineAnswer(f *testing.F) {
	for _, seed := range []string{"aGVsbG8=\n. 0\n", ". 1\n", "aGVs\r\nbG8=\r\n. 3\n", ".\n", "ready\n. 0", "\n\n. -1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c := &Line{in: bufio.NewReaderSize(strings.NewReader(in), lineMax)}
		_, data, err := c.answer()
		if err == nil && len(data) > len(in) {
			t.Errorf("%d bytes decoded from %d", len(data), len(in))
		}
	})
}
