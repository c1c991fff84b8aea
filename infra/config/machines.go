package config

import "originchain/shared/tenant"

// Machine is what a tier of shared/tenant is on EC2.
type Machine struct {
	// ARM64 and AMD64 are the instance types, with the processors and memory of the tier,
	// of families that every region of the table has.
	ARM64, AMD64 string
	// Followers is how many the tier comes with.
	Followers int
	// State holds state, its local checkpoints and what a compaction or a bootstrap
	// needs meanwhile: more than twice the data that the tier may store.
	State Volume
	// Log holds the segments that are not shipped, not flushed, or kept for a follower
	// that is behind: hours of writes while the archive is away.
	Log Volume
	// Burstable machines cannot have hosts of their own.
	Burstable bool
}

// Volume is a gp3 volume.
type Volume struct {
	GiB, IOPS, MiBps int
}

// Type is the instance type for an architecture.
func (m Machine) Type(a Architecture) string {
	if a == AMD64 {
		return m.AMD64
	}
	return m.ARM64
}

// Machines are the machines of the tiers, by slug.
func Machines() map[string]Machine {
	return map[string]Machine{
		"dev": {ARM64: "t4g.micro", AMD64: "t3.micro", Burstable: true,
			State: Volume{GiB: 12, IOPS: 3000, MiBps: 125}, Log: Volume{GiB: 8, IOPS: 3000, MiBps: 125}},
		"starter": {ARM64: "c6g.large", AMD64: "c6i.large",
			State: Volume{GiB: 110, IOPS: 3000, MiBps: 125}, Log: Volume{GiB: 20, IOPS: 3000, MiBps: 125}},
		"pro": {ARM64: "m6g.xlarge", AMD64: "m6i.xlarge", Followers: 1,
			State: Volume{GiB: 550, IOPS: 3000, MiBps: 250}, Log: Volume{GiB: 50, IOPS: 3000, MiBps: 250}},
		"scale": {ARM64: "m6g.4xlarge", AMD64: "m6i.4xlarge", Followers: 2,
			State: Volume{GiB: 2200, IOPS: 6000, MiBps: 500}, Log: Volume{GiB: 100, IOPS: 6000, MiBps: 500}},
		"dedicated": {ARM64: "m6g.8xlarge", AMD64: "m6i.8xlarge", Followers: 2,
			State: Volume{GiB: 8800, IOPS: 12000, MiBps: 1000}, Log: Volume{GiB: 200, IOPS: 12000, MiBps: 1000}},
	}
}

// tierSlugs are the tiers, smallest first.
func tierSlugs() (slugs []string) {
	for _, t := range tenant.Tiers() {
		slugs = append(slugs, t.Slug)
	}
	return slugs
}
