package config

import "testing"

// No two regions have one short name, and each has room for another in the name of a bucket.
func TestShortRegionsAreDistinct(t *testing.T) {
	of := make(map[string]string)
	for region := range regions() {
		short := ShortRegion(region)
		if other := of[short]; other != "" || len(short) < 4 || len(short) > 5 {
			t.Errorf("%s is %s, as is %q", region, short, other)
		}
		of[short] = region
	}
	for region, want := range map[string]string{"eu-central-1": "euc1", "ap-southeast-7": "apse7", "ap-northeast-3": "apne3", "ap-east-2": "ape2", "ap-south-1": "aps1", "us-west-2": "usw2"} {
		if got := ShortRegion(region); got != want {
			t.Errorf("%s is %s, want %s", region, got, want)
		}
	}
}
