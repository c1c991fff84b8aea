package schema

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

// readAll drains a reader into "index:raw".
func readAll(r *RowReader) (rows []string, last int, err error) {
	for {
		raw, i, err := r.Next()
		if err != nil {
			return rows, i, err
		}
		rows = append(rows, fmt.Sprintf("%d:%s", i, raw))
	}
}

func TestRowReader(t *testing.T) {
	pad := strings.Repeat(" ", 100<<10)
	for _, c := range []struct {
		name, src string
		want      []string
	}{
		{"nothing", "", nil},
		{"white space", " \n\t\r\n", nil},
		{"an empty array", " [ ] ", nil},
		{"one element", `[{"a":1}]`, []string{`0:{"a":1}`}},
		{"elements", "\n[ {\"a\":\"}],[\\\"\"} ,\n{\"b\":[{}]}\n]\n", []string{`0:{"a":"}],[\""}`, `1:{"b":[{}]}`}},
		{"a backslash before the quote", `[{"a":"\\"},{}]`, []string{`0:{"a":"\\"}`, `1:{}`}},
		{"lines", "{\"a\":1}\n{\"a\":2}\r\n\n  {\"a\":3}  ", []string{`0:{"a":1}`, `1:{"a":2}`, `2:{"a":3}`}},
		{"a last line longer than the rest", "{}\n{\"a\":12345}", []string{"0:{}", `1:{"a":12345}`}},
		{"lines are the decoder's to judge", "{\"a\":1} x\ny\n[1]", []string{`0:{"a":1} x`, `1:y`, `2:[1]`}},
		{"much white space", pad + "[" + pad + "{}" + pad + "," + pad + "{}" + pad + "]" + pad, []string{"0:{}", "1:{}"}},
	} {
		for mode, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte": iotest.OneByteReader, "data with EOF": iotest.DataErrReader,
		} {
			t.Run(c.name+"/"+mode, func(t *testing.T) {
				rows, last, err := readAll(NewRowReader(wrap(strings.NewReader(c.src))))
				if !errors.Is(err, io.EOF) || last != len(c.want) {
					t.Fatalf("ended at row %d with %v", last, err)
				}
				if diff := cmp.Diff(c.want, rows); diff != "" {
					t.Fatal(diff)
				}
			})
		}
	}
}

func TestRowReaderRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxBatchRowBytes)
	exact := `{"a":"` + strings.Repeat("x", MaxBatchRowBytes-8) + `"}`
	for _, c := range []struct {
		name, src string
		rows      int
		code      fault.Code
		message   string
	}{
		{"not an object", `[1]`, 0, fault.InvalidJSON, "the batch has '1' at row 0 (counted from 0), where a row's JSON object is expected"},
		{"a trailing comma", `[{},]`, 1, fault.InvalidJSON, "the batch has ']' at row 1 (counted from 0), where a row's JSON object is expected"},
		{"no comma", `[{}{}]`, 1, fault.InvalidJSON, "the batch has '{' at row 1 (counted from 0), where a comma or ] is expected"},
		{"no end", `[{}`, 1, fault.InvalidJSON, "the batch ends at row 1 (counted from 0), where a comma or ] is expected"},
		{"no element", `[`, 0, fault.InvalidJSON, "the batch ends at row 0 (counted from 0), where a row's JSON object is expected"},
		{"no element after a comma", `[{},`, 1, fault.InvalidJSON, "the batch ends at row 1 (counted from 0), where a row's JSON object is expected"},
		{"an element cut", `[{},{"a`, 1, fault.InvalidJSON, "the batch ends inside row 1 (counted from 0)"},
		{"more behind", `[{}] [`, 1, fault.InvalidJSON, "the batch has '[' after its closing ]; send one array"},
		{"a zero byte", "[\x00]", 0, fault.InvalidJSON, `the batch has '\x00' at row 0 (counted from 0), where a row's JSON object is expected`},
		{"a long line", "{}\n" + long + "x\n", 1, fault.BodyTooLarge, "row 1 of the batch (counted from 0) is longer than 1048576 bytes; send it by itself or make it smaller"},
		{"a long last line", "{}\n" + long + "x", 1, fault.BodyTooLarge, "row 1 of the batch (counted from 0) is longer than 1048576 bytes; send it by itself or make it smaller"},
		{"a very long line", strings.Repeat(long, 4), 0, fault.BodyTooLarge, "row 0 of the batch (counted from 0) is longer than 1048576 bytes; send it by itself or make it smaller"},
		{"a long element", "[{},{" + long + "}]", 1, fault.BodyTooLarge, "row 1 of the batch (counted from 0) is longer than 1048576 bytes; send it by itself or make it smaller"},
		{"a very long element", `[{"a":"` + strings.Repeat(long, 4), 0, fault.BodyTooLarge, "row 0 of the batch (counted from 0) is longer than 1048576 bytes; send it by itself or make it smaller"},
		{"as long as may be", "[" + exact + "," + exact + "]", 2, "", ""},
		{"a line as long as may be", exact + "\n" + exact, 2, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewRowReader(strings.NewReader(c.src))
			rows, last, err := readAll(r)
			if len(rows) != c.rows || last != c.rows {
				t.Fatalf("%d rows, then an error at %d: %v", len(rows), last, err)
			}
			if c.code == "" {
				if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
				return
			}
			wantFault(t, err, c.code, c.message)
			if _, _, again := r.Next(); again != err {
				t.Fatalf("then %v", again)
			}
			if len(r.buf) > 2*MaxBatchRowBytes {
				t.Fatalf("a buffer of %d bytes", len(r.buf))
			}
		})
	}
}

func TestRowReaderPassesReadErrorsOn(t *testing.T) {
	broken := errors.New("connection reset")
	for _, src := range []string{"", "[", "[{}", "[{},", `[{},{"a"`, "[{}]", "{}\n", "{}\n{"} {
		_, _, err := readAll(NewRowReader(io.MultiReader(strings.NewReader(src), iotest.ErrReader(broken))))
		if !errors.Is(err, broken) {
			t.Errorf("%q: %v", src, err)
		}
	}
	if _, _, err := NewRowReader(stuck{}).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// Rows come out the same however the body is cut into reads, across several
// buffers.
func TestRowReaderAcrossReads(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var want []string
	for i := range 3000 {
		want = append(want, fmt.Sprintf(`%d:{"id":%d,"s":"%s"}`, i, i, strings.Repeat("ab]}\\\"", r.IntN(40))))
	}
	texts := make([]string, len(want))
	for i, w := range want {
		_, texts[i], _ = strings.Cut(w, ":")
	}
	for _, body := range []string{"[" + strings.Join(texts, ", ") + "]", strings.Join(texts, "\n")} {
		rows, _, err := readAll(NewRowReader(&cut{strings.NewReader(body), r}))
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Fatal(diff)
		}
	}
}

// cut gives reads of random lengths.
type cut struct {
	r    io.Reader
	rand *rand.Rand
}

func (c *cut) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), 1+c.rand.IntN(5000))]) }
