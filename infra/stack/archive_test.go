package stack_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/shared/archive"
)

// archive is the name of a tenant's bucket. One of another region says whose it is.
func (w *world) archive(n *config.Tenant) string {
	if n.ArchiveRegion == w.config.Region {
		return "oc-" + n.Name + "-" + w.config.Account + "-" + w.config.Region
	}
	return "oc-" + n.Name + "-" + w.config.Account + "-aps1-in-euw1"
}

// archiveStack is the stack of it.
func (w *world) archiveStack(n *config.Tenant) string {
	if n.ArchiveRegion == w.config.Region {
		return "OriginChain-" + n.Name + "-Archive"
	}
	return "OriginChain-" + n.Name + "-Archive-" + w.config.Region
}

// TestArchivesAbroadAreTheirOwnRegions: deployments of two regions know nothing of each other.
// What one has in the region of the other has no name that the other's own tenant may have.
func TestArchivesAbroadAreTheirOwnRegions(t *testing.T) {
	const tenant = `{"account": "111122223333", "region": %q, "mail_from": "a@example.com", "tenants": [{"name": "acme", "instance_id": "01JDV5K2Q8W3M0ZB7R4N6XHE90", "tier": "dev", "zone": "db.example.com", "zone_id": "Z0123456789"%s}]}`
	abroad := synthesize(t, "abroad", fmt.Appendf(nil, tenant, "eu-central-1", `, "archive_region": "eu-west-1", "allow_cross_region": true`))
	home := synthesize(t, "home", fmt.Appendf(nil, tenant, "eu-west-1", ""))
	other := synthesize(t, "other", fmt.Appendf(nil, tenant, "eu-north-1", `, "archive_region": "eu-west-1", "allow_cross_region": true`))
	names := make(map[string]string)
	for of, w := range map[string]*world{"abroad": abroad, "home": home, "other": other} {
		for _, stack := range slices.Sorted(maps.Keys(w.stacks)) {
			if !strings.HasPrefix(stack, "OriginChain-acme-Archive") {
				continue
			}
			mine := []string{"stack " + stack}
			for _, kind := range [][2]string{{"AWS::S3::Bucket", "BucketName"}, {"AWS::KMS::Alias", "AliasName"}, {"AWS::IAM::Role", "RoleName"}} {
				for _, r := range w.stacks[stack].resources(kind[0]) {
					if name, ok := at(r, "Properties", kind[1]).(string); ok {
						mine = append(mine, kind[0]+" "+name)
					}
				}
			}
			if len(mine) != 6 {
				t.Errorf("%s: %q", of, mine)
			}
			for _, name := range mine {
				if names[name] != "" {
					t.Errorf("%s is %s's and %s's", name, names[name], of)
				}
				names[name] = of
			}
		}
	}
}

// bucket returns the archive's: the other of its stack has who asked what of it.
func (tm template) bucket(t *testing.T) map[string]any {
	t.Helper()
	return tm.ofBucket(t, "Bucket83908E77")
}

// ofBucket returns a bucket by its logical id.
func (tm template) ofBucket(t *testing.T, id string) map[string]any {
	t.Helper()
	p, ok := tm.resources("AWS::S3::Bucket")[id]["Properties"].(map[string]any)
	if !ok {
		t.Fatalf("there is no bucket %s", id)
	}
	return p
}

// bucketPolicy returns the policy of a bucket.
func (tm template) bucketPolicy(t *testing.T, id string) []statement {
	t.Helper()
	for _, p := range tm.resources("AWS::S3::BucketPolicy") {
		if at(p, "Properties", "Bucket", "Ref") == id {
			return statements(t, at(p, "Properties", "PolicyDocument"))
		}
	}
	t.Fatalf("bucket %s has no policy", id)
	return nil
}

// TestAccessesAreLogged: into a bucket that S3 alone writes, where they stay for a year.
func TestAccessesAreLogged(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, tm, _ template) {
		if len(tm.resources("AWS::S3::Bucket")) != 2 {
			t.Errorf("%d buckets", len(tm.resources("AWS::S3::Bucket")))
		}
		id, _ := at(tm.bucket(t), "LoggingConfiguration", "DestinationBucketName", "Ref").(string)
		b := tm.ofBucket(t, id)
		if days := at(b, "LifecycleConfiguration", "Rules", 0, "ExpirationInDays"); days != 366.0 {
			t.Errorf("they stay %v days", days)
		}
		if got := at(b, "VersioningConfiguration", "Status"); got != "Enabled" {
			t.Errorf("versions: %v", got)
		}
		if diff := cmp.Diff(at(tm.bucket(t), "PublicAccessBlockConfiguration"), at(b, "PublicAccessBlockConfiguration")); diff != "" {
			t.Error(diff)
		}
		allowed := 0
		for _, s := range tm.bucketPolicy(t, id) {
			if s.Effect != "Allow" {
				continue
			}
			allowed++
			source := tm.resolve(s.Condition["ArnLike"]["aws:SourceArn"])
			if diff := cmp.Diff(map[string]any{"Service": "logging.s3.amazonaws.com"}, s.Principal); diff != "" || len(s.actions()) != 1 || s.actions()[0] != "s3:PutObject" ||
				s.Condition["StringEquals"]["aws:SourceAccount"] != w.config.Account || source != "arn:aws:s3:::"+w.archive(n) {
				t.Errorf("%+v", s)
			}
		}
		if allowed != 1 {
			t.Errorf("%d statements allow something", allowed)
		}
	})
}

func TestArchiveBuckets(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, tm, _ template) {
		b := tm.bucket(t)
		for _, c := range []struct {
			path []any
			want any
		}{
			{[]any{"VersioningConfiguration", "Status"}, "Enabled"},
			{[]any{"BucketName"}, w.archive(n)},
			{[]any{"BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "SSEAlgorithm"}, "aws:kms"},
			{[]any{"BucketEncryption", "ServerSideEncryptionConfiguration", 0, "BucketKeyEnabled"}, true},
			{[]any{"OwnershipControls", "Rules", 0, "ObjectOwnership"}, "BucketOwnerEnforced"},
			{[]any{"PublicAccessBlockConfiguration"}, map[string]any{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true}},
		} {
			if diff := cmp.Diff(c.want, at(b, c.path...)); diff != "" {
				t.Errorf("%v (-want +got)\n%s", c.path, diff)
			}
		}
		key := tm.resolve(at(b, "BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "KMSMasterKeyID"))
		if n.KeyARN != "" && key != n.KeyARN || n.KeyARN == "" && len(tm.resources("AWS::KMS::Key")) != 1 {
			t.Errorf("encrypted with %s", key)
		}
	})
}

// TestLifecycleFollowsTheRetention: what was deleted can be had back for the window, and
// nothing current ever goes by its age.
func TestLifecycleFollowsTheRetention(t *testing.T) {
	tenants(t, func(t *testing.T, _ *world, n *config.Tenant, tm, _ template) {
		rules := make(map[string]map[string]any)
		for _, r := range at(tm.bucket(t), "LifecycleConfiguration", "Rules").([]any) {
			m := r.(map[string]any)
			rules[m["Id"].(string)] = m
			for _, key := range []string{"ExpirationInDays", "ExpirationDate", "Transitions", "Transition", "NoncurrentVersionTransitions"} {
				if m[key] != nil {
					t.Errorf("rule %v has %s: an old object can be what a point in the window rests on", m["Id"], key)
				}
			}
			if m["Status"] != "Enabled" {
				t.Errorf("rule %v is %v", m["Id"], m["Status"])
			}
		}
		if got := slices.Sorted(maps.Keys(rules)); !slices.Equal(got, []string{"abandoned-uploads", "deleted", "shipped-tail"}) {
			t.Errorf("rules %q", got)
		}
		if d := at(rules["deleted"], "NoncurrentVersionExpiration", "NoncurrentDays"); d != float64(n.RetentionDays) || rules["deleted"]["ExpiredObjectDeleteMarker"] != true || rules["deleted"]["Prefix"] != nil {
			t.Errorf("what was deleted stays %v days of %d: %v", d, n.RetentionDays, rules["deleted"])
		}
		if rules["shipped-tail"]["Prefix"] != "tail/" || at(rules["shipped-tail"], "NoncurrentVersionExpiration", "NoncurrentDays") != 1.0 {
			t.Errorf("%v", rules["shipped-tail"])
		}
		if at(rules["abandoned-uploads"], "AbortIncompleteMultipartUpload", "DaysAfterInitiation") != 2.0 {
			t.Errorf("%v", rules["abandoned-uploads"])
		}
	})
}

// TestWhatTheArchiveRefuses asks the bucket's policy, whatever the roles' own allow.
func TestWhatTheArchiveRefuses(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, tm, _ template) {
		policy := tm.bucketPolicy(t, "Bucket83908E77")
		role := func(what string) string {
			return "arn:aws:iam::" + w.config.Account + ":role/oc-" + n.Name + "-" + what + "-" + w.config.Region
		}
		key := tm.resolve(at(tm.bucket(t), "BucketEncryption", "ServerSideEncryptionConfiguration", 0, "ServerSideEncryptionByDefault", "KMSMasterKeyID"))
		node, retention, erasure, admin := role("node"), role("retention"), role("erasure"), "arn:aws:iam::"+w.config.Account+":role/Admin"
		with := func(more ...string) map[string]string {
			c := map[string]string{"aws:SecureTransport": "true", "s3:TlsVersion": "1.3", "s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}
			for i := 0; i < len(more); i += 2 {
				if c[more[i]] = more[i+1]; more[i+1] == "" {
					delete(c, more[i])
				}
			}
			return c
		}
		const sse, sseKey = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
		for name, c := range map[string]struct {
			who, action, key string
			context          map[string]string
			want             string
		}{
			"a node puts":                       {node, "s3:PutObject", "log/0/1.seg.zst", with(), ""},
			"erasure puts":                      {erasure, "s3:PutObject", "log/0/1.seg.r1.zst", with(), ""},
			"retention puts":                    {retention, "s3:PutObject", "log/0/1.seg.r1.zst", with(), "OnlyNodesAndErasurePut!"},
			"a part of an upload":               {node, "s3:PutObject", "log/0/1.seg.zst", with("s3:if-none-match", "", "s3:ObjectCreationOperation", "false"), ""},
			"a segment over another":            {node, "s3:PutObject", "log/0/1.seg.zst", with("s3:if-none-match", ""), "CreateOnly!"},
			"an epoch over another":             {node, "s3:PutObject", "epochs/1.json", with("s3:if-none-match", ""), "CreateOnly!"},
			"erasure over a segment":            {erasure, "s3:PutObject", "log/0/1.seg.zst", with("s3:if-none-match", ""), "CreateOnly!"},
			"an administrator puts":             {admin, "s3:PutObject", "objects/x", with(), "OnlyNodesAndErasurePut!"},
			"restore puts":                      {role("restore"), "s3:PutObject", "objects/x", with(), "OnlyNodesAndErasurePut!"},
			"a node deletes":                    {node, "s3:DeleteObject", "log/0/1.seg.zst", with(), "OnlyRetentionAndErasureDelete!"},
			"a node deletes a version":          {node, "s3:DeleteObjectVersion", "log/0/1.seg.zst", with(), "OnlyErasureDeletesVersions!"},
			"an administrator deletes":          {admin, "s3:DeleteObjectVersion", "objects/x", with(), "OnlyErasureDeletesVersions!"},
			"retention deletes a version":       {retention, "s3:DeleteObjectVersion", "objects/x", with(), "OnlyErasureDeletesVersions!"},
			"erasure deletes a version":         {erasure, "s3:DeleteObjectVersion", "objects/x", with(), ""},
			"retention deletes":                 {retention, "s3:DeleteObject", "objects/x", with(), ""},
			"retention deletes a segment":       {retention, "s3:DeleteObject", "log/0/1.seg.zst", with(), ""},
			"retention deletes an epoch":        {retention, "s3:DeleteObject", "epochs/1.json", with(), "OnlyErasureDeletesHistory!"},
			"retention deletes a gap":           {retention, "s3:DeleteObject", "gaps/0/1-2.json", with(), "OnlyErasureDeletesHistory!"},
			"retention deletes an erasure":      {retention, "s3:DeleteObject", "redactions/x.json", with(), "OnlyErasureDeletesHistory!"},
			"retention deletes whose it is":     {retention, "s3:DeleteObject", "instance.json", with(), "OnlyErasureDeletesHistory!"},
			"erasure deletes an epoch":          {erasure, "s3:DeleteObject", "epochs/1.json", with(), ""},
			"retention of another region":       {"arn:aws:iam::" + w.config.Account + ":role/oc-" + n.Name + "-retention-us-east-1", "s3:DeleteObject", "objects/x", with(), "OnlyRetentionAndErasureDelete!"},
			"plain HTTP":                        {node, "s3:GetObject", "objects/x", with("aws:SecureTransport", "false"), "!"},
			"old TLS":                           {node, "s3:GetObject", "objects/x", with("s3:TlsVersion", "1.1"), "!"},
			"a node gets":                       {node, "s3:GetObject", "objects/x", with(), ""},
			"encrypted by another key":          {node, "s3:PutObject", "objects/x", with(sse, "aws:kms", sseKey, "arn:aws:kms:x:1:key/2"), "OnlyThisKey!"},
			"encrypted by its key":              {node, "s3:PutObject", "objects/x", with(sse, "aws:kms", sseKey, key), ""},
			"encrypted by a key of S3":          {node, "s3:PutObject", "objects/x", with(sse, "AES256"), "OnlyKMS!"},
			"encrypted as the bucket's default": {node, "s3:PutObject", "objects/x", with(sse, "", sseKey, ""), ""},
		} {
			r := request{c.who, c.action, "arn:aws:s3:::" + w.archive(n) + "/" + c.key, c.context}
			if got := tm.denied(t, policy, r); got != c.want {
				t.Errorf("%s: denied by %q, want %q", name, got, c.want)
			}
		}
	})
}

// TestTheRolesShareTheWork: what each may do, and nothing more.
func TestTheRolesShareTheWork(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, bucket, instance template) {
		want := map[string][]string{
			"RestoreRole":   {"kms:Decrypt", "s3:GetBucketLocation", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"},
			"RetentionRole": {"s3:DeleteObject"},
			"ErasureRole": {"kms:Decrypt", "kms:GenerateDataKey", "s3:AbortMultipartUpload", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetBucketLocation", "s3:GetObject",
				"s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions", "s3:PutObject"},
		}
		for role, actions := range want {
			var got []string
			for _, s := range bucket.policyOf(t, role) {
				got = append(got, s.actions()...)
				for _, r := range bucket.texts(s.Resource) {
					if r == "*" {
						t.Errorf("%s may do %v to everything", role, s.actions())
					}
				}
			}
			if slices.Sort(got); !slices.Equal(got, actions) {
				t.Errorf("%s may %q, want %q", role, got, actions)
			}
		}
		// By its own policy too, whatever the bucket's says: what retention deletes, and nothing else.
		for key, want := range map[archive.Key]bool{
			archive.SegmentKey{Epoch: 1, First: 1, Last: 2}: true, archive.PartKey{Epoch: 1, Segment: 1, From: 1, To: 2}: true, archive.CheckpointKey{LSN: 1, Epoch: 1}: true,
			archive.PendingKey{CheckpointKey: archive.CheckpointKey{LSN: 1, Epoch: 1}}: true, archive.FileKey{Generation: 1}: true, archive.BoundaryKey{Number: 1}: true,
			archive.EpochKey{Epoch: 1}: false, archive.GapKey{Epoch: 1, From: 1, To: 2}: false, archive.RedactionKey{ID: "x"}: false, archive.InstanceKey{}: false,
		} {
			if got := bucket.may(t, bucket.policyOf(t, "RetentionRole"), "s3:DeleteObject", "arn:aws:s3:::"+w.archive(n)+"/"+key.String()); got != want {
				t.Errorf("retention may delete %s: %v", key, got)
			}
		}
		node := instance.policyOf(t, "NodeRole")
		for _, action := range []string{"s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutBucketPolicy", "s3:PutLifecycleConfiguration", "s3:BypassGovernanceRetention"} {
			r := request{action: action, resource: "arn:aws:s3:::" + w.archive(n) + "/x"}
			if instance.allowed(t, node, r) {
				t.Errorf("a node may %s", action)
			}
		}
		// Only the nodes of this instance take the role that deletes, and none the role that
		// erases; a person does whose own policy says so.
		all := []statement{{Effect: "Allow", Action: "sts:AssumeRole", Resource: "*"}}
		name := func(what, of string) string {
			return "arn:aws:iam::" + w.config.Account + ":role/oc-" + of + "-" + what + "-" + w.config.Region
		}
		admin := "arn:aws:iam::" + w.config.Account + ":role/Admin"
		for _, c := range []struct {
			role, who string
			own       []statement
			want      bool
		}{
			{"retention", name("node", n.Name), node, true}, {"retention", name("node", "other"), all, false}, {"retention", admin, all, false},
			{"erasure", name("node", n.Name), node, false}, {"erasure", name("node", n.Name), all, false}, {"erasure", name("retention", n.Name), all, false},
			{"erasure", admin, all, true}, {"erasure", admin, nil, false}, {"restore", admin, all, true},
		} {
			made := false
			for _, r := range bucket.resources("AWS::IAM::Role") {
				if "arn:aws:iam::"+w.config.Account+":role/"+fmt.Sprint(at(r, "Properties", "RoleName")) != name(c.role, n.Name) {
					continue
				}
				made = true
				trust := statements(t, at(r, "Properties", "AssumeRolePolicyDocument"))
				if got := bucket.grants(t, trust, c.own, request{principal: c.who, action: "sts:AssumeRole", resource: name(c.role, n.Name)}); got != c.want {
					t.Errorf("%s takes %s: %v, want %v", c.who, c.role, got, c.want)
				}
			}
			if !made {
				t.Errorf("there is no role of %s", c.role)
			}
		}
	})
}
