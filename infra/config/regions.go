package config

import "strings"

// regions are the commercial regions, and the letters of the availability zones that
// new accounts get machines in. A region with fewer than three cannot keep the nodes of
// an instance apart. It is a table, so that synthesis asks no account; where an account
// has other letters, `zones` names them.
func regions() map[string]string {
	return map[string]string{
		"af-south-1":     "abc",
		"ap-east-1":      "abc",
		"ap-east-2":      "abc",
		"ap-northeast-1": "acd",
		"ap-northeast-2": "abcd",
		"ap-northeast-3": "abc",
		"ap-south-1":     "abc",
		"ap-south-2":     "abc",
		"ap-southeast-1": "abc",
		"ap-southeast-2": "abc",
		"ap-southeast-3": "abc",
		"ap-southeast-4": "abc",
		"ap-southeast-5": "abc",
		"ap-southeast-6": "abc",
		"ap-southeast-7": "abc",
		"ca-central-1":   "abd",
		"ca-west-1":      "abc",
		"eu-central-1":   "abc",
		"eu-central-2":   "abc",
		"eu-north-1":     "abc",
		"eu-south-1":     "abc",
		"eu-south-2":     "abc",
		"eu-west-1":      "abc",
		"eu-west-2":      "abc",
		"eu-west-3":      "abc",
		"il-central-1":   "abc",
		"me-central-1":   "abc",
		"me-south-1":     "abc",
		"mx-central-1":   "abc",
		"sa-east-1":      "abc",
		"us-east-1":      "abcdf",
		"us-east-2":      "abc",
		"us-west-1":      "ac",
		"us-west-2":      "abcd",
	}
}

// ShortRegion is the short name of a region, as ids of zones begin with: euc1 of eu-central-1.
// There are no two of one name.
func ShortRegion(region string) string {
	parts := strings.Split(region, "-")
	for i, p := range parts[1:] {
		switch {
		case strings.HasSuffix(p, "east") && p != "east", strings.HasSuffix(p, "west") && p != "west":
			parts[i+1] = p[:1] + p[5:6]
		default:
			parts[i+1] = p[:1]
		}
	}
	return strings.Join(parts, "")
}

// zonesOf are the availability zones of a region, nil for one that is not known.
func zonesOf(region string) (zones []string) {
	for _, letter := range regions()[region] {
		zones = append(zones, region+string(letter))
	}
	return zones
}
