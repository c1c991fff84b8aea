package main

import "testing"

// Of 21 pairs the median lies between the 6th and the 16th with 97 %.
func TestPairsGiveTheMedianAndItsInterval(t *testing.T) {
	var a, b []float64
	for i := range 21 {
		a, b = append(a, float64(i+1)*float64(i+2)), append(b, float64(i+2))
	}
	if median, low, high := pairs(a, b); median != 11 || low != 6 || high != 16 {
		t.Errorf("%v, %v to %v", median, low, high)
	}
	if median, low, high := pairs([]float64{6}, []float64{3}); median != 2 || low != 2 || high != 2 {
		t.Errorf("of one: %v, %v to %v", median, low, high)
	}
}
