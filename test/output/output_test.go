package output

import (
	"strings"
	"sync"
	"testing"
)

func TestEachWriteIsKeptWholeAndTakenOnce(t *testing.T) {
	const writers, lines = 4, 200
	var o Output
	var taken strings.Builder
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for range lines {
				_, _ = o.Write([]byte("line\n")) // it never fails
			}
		})
	}
	for range lines {
		taken.WriteString(o.Take())
	}
	work.Wait()
	left := o.String()
	taken.WriteString(o.Take())
	if want := strings.Repeat("line\n", writers*lines); taken.String() != want || !strings.HasSuffix(want, left) || o.String() != "" {
		t.Errorf("%d bytes of %d", taken.Len(), len(want))
	}
}
