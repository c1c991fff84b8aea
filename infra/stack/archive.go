package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// abandonedUploadDays is after how long the parts of an upload that never ended go.
	abandonedUploadDays = 2
	// shippedTailDays is how long a deleted part of the tail can be had back: a sealed
	// segment has its bytes.
	shippedTailDays = 1
	// accessLogDays is how long the logs of accesses stay, accessLogDeletedDays how long
	// one that is deleted can be had back.
	accessLogDays, accessLogDeletedDays = 366, 30
	// minTLS is the oldest TLS that the bucket takes.
	minTLS = 1.2
)

// Archive is the bucket with what a restore of a tenant's instance needs, in the
// tenant's own region unless another was asked for by name.
//
// Four roles share the work. The nodes put and get, and delete in the retention role,
// which deletes as one does in a bucket with versions: what was is still there. The
// restore role gets. The erasure role, which no node may take, deletes versions: whoever
// takes a node over cannot destroy the past.
type Archive struct {
	Stack awscdk.Stack
	// Bucket's name follows from the tenant, account and regions, so that policies of
	// other regions can name it.
	Bucket     awss3.Bucket
	BucketName string
	// AccessLogs has who asked what of the bucket.
	AccessLogs awss3.Bucket
	Key        awskms.IKey
	// Restore, Retention and Erasure are ARNs of the roles.
	Restore, Retention, Erasure string
}

// bucketName of an archive that is not in the instance's region says whose region's it is, by
// the short names of both, as there is no room for the long ones: deployments of two regions
// know nothing of each other, and each may have a tenant of that name.
func bucketName(c *config.Config, t *config.Tenant) string {
	of := "oc-" + t.Name + "-" + c.Account + "-"
	if abroad(c, t) {
		return of + config.ShortRegion(c.Region) + "-in-" + config.ShortRegion(t.ArchiveRegion)
	}
	return of + c.Region
}

func abroad(c *config.Config, t *config.Tenant) bool { return t.ArchiveRegion != c.Region }

// whose says so of what has room for it.
func whose(c *config.Config, t *config.Tenant) string {
	if abroad(c, t) {
		return "-" + c.Region
	}
	return ""
}

// archiveURL is as nodes are told of the archive, and of the role that they delete in.
func archiveURL(c *config.Config, t *config.Tenant) string {
	return "s3://" + bucketName(c, t) + "?region=" + t.ArchiveRegion + "&remover=" + roleARN(c, retentionRole(c, t))
}

func archiveAlias(c *config.Config, t *config.Tenant) string {
	return "originchain-" + t.Name + "-archive" + whose(c, t)
}

func newArchive(app awscdk.App, c *config.Config, t *config.Tenant) *Archive {
	s := part(app, c, t.ArchiveRegion, t.Name+"-Archive"+whose(c, t), "OriginChain: the archive of instance "+t.Name)
	own(s, t)
	a := &Archive{Stack: s, BucketName: bucketName(c, t),
		Restore: roleARN(c, restoreRole(c, t)), Retention: roleARN(c, retentionRole(c, t)), Erasure: roleARN(c, erasureRole(c, t))}
	if t.KeyARN != "" {
		a.Key = awskms.Key_FromKeyArn(s, jsii.String("Key"), jsii.String(t.KeyARN))
	} else {
		a.Key = newKey(s, "Key", archiveAlias(c, t), "Encrypts the archive of OriginChain instance "+t.Name)
	}
	a.AccessLogs = accessLogs(s)
	a.Bucket = awss3.NewBucket(s, jsii.String("Bucket"), &awss3.BucketProps{
		ServerAccessLogsBucket: a.AccessLogs, ServerAccessLogsPrefix: jsii.String("archive/"),
		BucketName: jsii.String(a.BucketName), Versioned: jsii.Bool(true), RemovalPolicy: kept(),
		Encryption: awss3.BucketEncryption_KMS, EncryptionKey: a.Key, BucketKeyEnabled: jsii.Bool(true),
		EnforceSSL: jsii.Bool(true), MinimumTLSVersion: jsii.Number(minTLS), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, LifecycleRules: lifecycle(t),
	})
	locked := "A lock would refuse what retention deletes and an erasure that a person may ask for; the policy lets nobody else delete"
	excuse(a.Bucket, "cdk-nag::S3BucketDefaultLockEnabled", locked)
	excuse(a.Bucket, "cfn-guard::s3_bucket_object_lock_enabled_check", locked)
	excuse(a.Bucket, "cdk-nag::S3BucketReplicationEnabled", oneRegion)
	excuse(a.Bucket, "cfn-guard::s3_event_notifications_enabled_check", noEvents)
	a.restrict(c, t)
	a.roles(c, t)
	return a
}

// Why buckets do without.
const (
	oneRegion = "A tenant's data stays in the region that was asked for; S3 keeps it in three zones of it"
	noEvents  = "Nothing waits for an object to appear here: an event would have nobody to go to"
)

// accessLogs is a bucket for who asked what of another. Its name is CloudFormation's:
// nobody has to know it.
func accessLogs(s awscdk.Stack) awss3.Bucket {
	b := awss3.NewBucket(s, jsii.String("AccessLogs"), &awss3.BucketProps{
		Versioned: jsii.Bool(true), RemovalPolicy: kept(), Encryption: awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL: jsii.Bool(true), MinimumTLSVersion: jsii.Number(minTLS), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, LifecycleRules: &[]*awss3.LifecycleRule{
			{Id: jsii.String("year"), Expiration: awscdk.Duration_Days(jsii.Number(accessLogDays)), NoncurrentVersionExpiration: awscdk.Duration_Days(jsii.Number(accessLogDeletedDays)),
				AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(abandonedUploadDays))},
		},
	})
	excuse(b, "cfn-guard::s3_bucket_logging_enabled_check", "It holds the logs of accesses: to log those of the logs too would never end")
	const encrypted = "S3 delivers logs of accesses to no bucket that is encrypted with a key of KMS"
	excuse(b, "cdk-nag::S3DefaultEncryptionKMS", encrypted)
	excuse(b, "cfn-guard::s3_bucket_default_encryption_kms_check", encrypted)
	const kept = "A log of accesses is deleted after a year, and its versions stay for a month"
	excuse(b, "cdk-nag::S3BucketDefaultLockEnabled", kept)
	excuse(b, "cfn-guard::s3_bucket_object_lock_enabled_check", kept)
	excuse(b, "cdk-nag::S3BucketReplicationEnabled", oneRegion)
	excuse(b, "cfn-guard::s3_event_notifications_enabled_check", noEvents)
	return b
}

// lifecycle keeps what retention has deleted for as long as the window of a restore, so
// that a deletion in error can be undone for as long as it would be noticed. No rule
// expires what is current: an old object is what a point in the window may rest on, and
// only retention knows.
func lifecycle(t *config.Tenant) *[]*awss3.LifecycleRule {
	days := func(n int) awscdk.Duration { return awscdk.Duration_Days(jsii.Number(n)) }
	return &[]*awss3.LifecycleRule{
		{Id: jsii.String("deleted"), NoncurrentVersionExpiration: days(t.RetentionDays), ExpiredObjectDeleteMarker: jsii.Bool(true)},
		{Id: jsii.String("shipped-tail"), Prefix: jsii.String("tail/"), NoncurrentVersionExpiration: days(shippedTailDays)},
		{Id: jsii.String("abandoned-uploads"), AbortIncompleteMultipartUploadAfter: days(abandonedUploadDays)},
	}
}

// retained are the prefixes below which retention deletes. What it never deletes says which
// epochs there were, what is missing, and what was erased.
func retained() []string {
	return []string{"boundaries/", "checkpoints/", "log/", "objects/", "pending/", "tail/"}
}

// restrict is what nobody may do, whatever a policy of theirs allows.
func (a *Archive) restrict(c *config.Config, t *config.Tenant) {
	node, objects := roleARN(c, nodeRole(c, t)), a.BucketName+"/*"
	deny := func(sid string, conditions map[string]any, resources []string, actions ...string) {
		for i, r := range resources {
			resources[i] = "arn:aws:s3:::" + r
		}
		a.Bucket.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Sid: jsii.String(sid), Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
			Actions: list(actions...), Resources: list(resources...), Conditions: &conditions}))
	}
	// The parts of an upload carry no condition; its completion does.
	deny("CreateOnly", map[string]any{"Null": map[string]any{"s3:if-none-match": "true"}, "Bool": map[string]any{"s3:ObjectCreationOperation": "true"}},
		[]string{a.BucketName + "/log/*", a.BucketName + "/epochs/*"}, "s3:PutObject")
	only := func(sid, action string, of []string, roles ...any) {
		deny(sid, map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": roles}}, of, action)
	}
	only("OnlyNodesAndErasurePut", "s3:PutObject", []string{objects}, node, a.Erasure)
	only("OnlyRetentionAndErasureDelete", "s3:DeleteObject", []string{objects}, a.Retention, a.Erasure)
	// To S3 what was deleted is not there: whoever deletes an epoch could put another in its place.
	only("OnlyErasureDeletesHistory", "s3:DeleteObject", []string{a.BucketName + "/epochs/*", a.BucketName + "/gaps/*", a.BucketName + "/redactions/*", a.BucketName + "/instance.json"}, a.Erasure)
	only("OnlyErasureDeletesVersions", "s3:DeleteObjectVersion", []string{objects}, a.Erasure)
	const with, key = "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id"
	deny("OnlyKMS", map[string]any{"Null": map[string]any{with: "false"}, "StringNotEquals": map[string]any{with: "aws:kms"}}, []string{objects}, "s3:PutObject")
	deny("OnlyThisKey", map[string]any{"Null": map[string]any{key: "false"}, "StringNotEquals": map[string]any{key: *a.Key.KeyArn()}}, []string{objects}, "s3:PutObject")
}

// roles makes those of restore, retention and erasure; the nodes' own is the instance's.
func (a *Archive) roles(c *config.Config, t *config.Tenant) {
	node, objects := roleARN(c, nodeRole(c, t)), *a.Bucket.ArnForObjects(jsii.String("*"))
	role := func(id, name, says string, who map[string]any) awsiam.Role {
		// Who may take it is for the policies of the account's own people and functions.
		by := awsiam.IPrincipal(awsiam.NewAccountPrincipal(jsii.String(c.Account)))
		if who != nil {
			// The condition, and not the principal, names a role: a principal must exist
			// when the policy is written, and the nodes' role comes later.
			by = awsiam.NewPrincipalWithConditions(by, &who)
		}
		return awsiam.NewRole(a.Stack, jsii.String(id), &awsiam.RoleProps{RoleName: jsii.String(name), Description: jsii.String(says), AssumedBy: by})
	}
	const unknown = "The objects of this archive: their keys are not known beforehand"
	restore := role("RestoreRole", restoreRole(c, t), "Gets what the archive of "+t.Name+" holds, to restore or verify it", nil)
	retention := role("RetentionRole", retentionRole(c, t), "Deletes what the archive of "+t.Name+" no longer needs; its versions stay for the window",
		map[string]any{"ArnEquals": map[string]any{"aws:PrincipalArn": node}})
	erasure := role("ErasureRole", erasureRole(c, t), "Rewrites what the archive of "+t.Name+" holds, and erases what was with all versions: for oc-pitr purge alone",
		map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": []any{node, a.Retention, a.Restore}}})
	excuseWildcard(restore, "<Bucket.Arn>/*", unknown, "Get")
	excuseWildcard(erasure, "<Bucket.Arn>/*", unknown, "Get", "Erase", "Put")
	for _, r := range []awsiam.Role{restore, erasure} {
		allow(r, "List", []string{*a.Bucket.BucketArn()}, nil, "s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation")
		allow(r, "Get", []string{objects}, nil, "s3:GetObject", "s3:GetObjectVersion")
	}
	// A node lists and gets in its own role: what it deletes is all that it does in this one.
	var old []string
	for _, prefix := range retained() {
		old = append(old, *a.Bucket.ArnForObjects(jsii.String(prefix + "*")))
		excuseWildcard(retention, "<Bucket.Arn>/"+prefix+"*", unknown, "Delete")
	}
	allow(retention, "Delete", old, nil, "s3:DeleteObject")
	// What an erasure breaks off, so that no part of what was erased comes to be.
	allow(erasure, "Uploads", []string{*a.Bucket.BucketArn()}, nil, "s3:ListBucketMultipartUploads")
	allow(erasure, "Erase", []string{objects}, nil, "s3:DeleteObject", "s3:DeleteObjectVersion")
	allow(erasure, "Put", []string{objects}, nil, "s3:PutObject", "s3:AbortMultipartUpload")
	through := map[string]any{"StringEquals": map[string]any{"kms:ViaService": "s3." + t.ArchiveRegion + ".amazonaws.com"}}
	allow(restore, "Decrypt", []string{*a.Key.KeyArn()}, through, "kms:Decrypt")
	allow(erasure, "Decrypt", []string{*a.Key.KeyArn()}, through, "kms:Decrypt", "kms:GenerateDataKey")
}

// allow adds a statement to a role.
func allow(r awsiam.Role, sid string, resources []string, conditions map[string]any, actions ...string) {
	r.AddToPolicy(statementOf(sid, resources, conditions, actions))
	excuse(r, inlineRule, inlineReason)
}

func statementOf(sid string, resources []string, conditions map[string]any, actions []string) awsiam.PolicyStatement {
	p := &awsiam.PolicyStatementProps{Sid: jsii.String(sid), Actions: list(actions...), Resources: list(resources...)}
	if conditions != nil {
		p.Conditions = &conditions
	}
	return awsiam.NewPolicyStatement(p)
}
