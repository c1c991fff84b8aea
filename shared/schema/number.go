package schema

import (
	"math"
	"math/bits"
	"strconv"
)

// Why a JSON number does not fit its column.
const (
	notWhole   = "is not a whole number"
	outOfRange = "is out of range"
)

// parseInteger reads a JSON number as a sign and a magnitude. 1.0, 10e-1 and 1e3
// are whole numbers and accepted, as clients whose only number is a float write
// them; the test is exact, on the decimal digits. why is "" if it succeeds.
func parseInteger(raw []byte) (negative bool, magnitude uint64, why string) {
	digits := raw
	if digits[0] == '-' {
		negative, digits = true, digits[1:]
	}
	if len(digits) > 19 {
		return parseDecimal(negative, digits)
	}
	for _, c := range digits {
		if c -= '0'; c > 9 {
			return parseDecimal(negative, digits)
		}
		magnitude = magnitude*10 + uint64(c)
	}
	return negative, magnitude, ""
}

// parseDecimal reads any unsigned JSON number that is whole. It works on the
// digits, so that no rounding can turn a fraction into a whole number.
func parseDecimal(negative bool, raw []byte) (bool, uint64, string) {
	// The value is the digits of raw[:end], the point left out, × 10^exp10; a zero
	// at the end of the digits counts into the exponent instead.
	end, exp10 := splitExponent(raw)
	fraction, zeros, significant := 0, 0, false
	point := false
	for _, c := range raw[:end] {
		if c == '.' {
			point = true
			continue
		}
		if point {
			fraction++
		}
		if c == '0' {
			zeros++
		} else {
			zeros, significant = 0, true
		}
	}
	if !significant {
		return negative, 0, ""
	}
	exp10 += zeros - fraction
	if exp10 < 0 {
		return negative, 0, notWhole
	}
	count := end - zeros
	if point {
		count-- // the point
	}
	magnitude, digits := uint64(0), 0
	for _, c := range raw[:end] {
		if c == '.' {
			continue
		}
		if digits++; digits > count {
			break
		}
		if !shift10(&magnitude, uint64(c-'0')) {
			return negative, 0, outOfRange
		}
	}
	for range min(exp10, 20) {
		if !shift10(&magnitude, 0) {
			return negative, 0, outOfRange
		}
	}
	return negative, magnitude, ""
}

// splitExponent finds where the digits end and reads the exponent after them,
// held within ±10^9: no text of a row has as many digits.
func splitExponent(raw []byte) (end, exp10 int) {
	const most = 1_000_000_000
	end = len(raw)
	for i, c := range raw {
		if c|0x20 != 'e' {
			continue
		}
		end = i
		sign, tail := 1, raw[i+1:]
		if tail[0] == '-' {
			sign = -1
		}
		if tail[0] == '-' || tail[0] == '+' {
			tail = tail[1:]
		}
		for _, d := range tail {
			exp10 = min(exp10*10+int(d-'0'), most)
		}
		return end, sign * exp10
	}
	return end, 0
}

// shift10 makes *m = *m*10 + digit, or reports that 64 bits do not hold it.
func shift10(m *uint64, digit uint64) bool {
	hi, lo := bits.Mul64(*m, 10)
	sum, carry := bits.Add64(lo, digit, 0)
	*m = sum
	return hi == 0 && carry == 0
}

// exactTens are the powers of ten that a float holds exactly.
var exactTens = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseFloat reads a JSON number as the nearest float; false if it is too large
// for one. Up to 15 digits and a small power of ten are both exact as floats, so
// one division rounds correctly; anything else goes to strconv.
func parseFloat(raw []byte) (float64, bool) {
	digits, negative := raw, raw[0] == '-'
	if negative {
		digits = digits[1:]
	}
	var m uint64
	fraction, point := 0, 0
	for _, c := range digits {
		switch {
		case c >= '0' && c <= '9':
			m = m*10 + uint64(c-'0')
			fraction += point
		case c == '.':
			point = 1
		default:
			return parseFloatSlow(raw)
		}
	}
	if len(digits)-point > 15 {
		return parseFloatSlow(raw)
	}
	f := float64(m) / exactTens[fraction]
	if negative {
		f = -f
	}
	return f, true
}

func parseFloatSlow(raw []byte) (float64, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	return f, err == nil && !math.IsInf(f, 0)
}
