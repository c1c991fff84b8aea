package lsn

import (
	"math"
	"testing"
)

func TestDigestArithmeticCarries(t *testing.T) {
	a := Digest{Hi: math.MaxUint64, Lo: math.MaxUint64}
	one := Digest{Lo: 1}
	if got := a.Add(one); !got.IsZero() {
		t.Fatalf("max+1 = %s, want zero", got)
	}
	if got := (Digest{}).Sub(one); got != a {
		t.Fatalf("0-1 = %s, want %s", got, a)
	}
	if got := (Digest{Lo: math.MaxUint64}).Add(one); got != (Digest{Hi: 1}) {
		t.Fatalf("carry lost: %s", got)
	}
}

func TestDigestRoundTrip(t *testing.T) {
	d := Digest{Hi: 0x0123456789abcdef, Lo: 0xfedcba9876543210}
	if got := DigestFrom(d.Append(nil)); got != d {
		t.Fatalf("got %s want %s", got, d)
	}
	if got, want := d.String(), "0123456789abcdeffedcba9876543210"; got != want {
		t.Fatalf("got %s want %s", got, want)
	}
}
