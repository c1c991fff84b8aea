package stack

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// statusSeconds bounds a call of the function that publishes.
	statusSeconds = 30
	// pastPages is how many days a page stays that was replaced; there is one each minute.
	pastPages = 1
	// statusDead is the queue of calls that could not be made.
	statusDead = "oc-status-schedules-dead"
	// cachedAsTold is CloudFront's own policy that keeps a file for as long as it says.
	cachedAsTold = "658327ea-f89d-4fab-a63d-7e88639e58f6"
	// hstsSeconds is for how long a browser asks by TLS alone: two years.
	hstsSeconds = 2 * 365 * 24 * 3600
)

// Status is the page of the region for everybody: files in a bucket that nobody but
// CloudFront reads, and a function that writes them each minute.
type Status struct {
	Stack  awscdk.Stack
	Bucket awss3.Bucket
	// Name is that of the bucket.
	Name         string
	Distribution awscloudfront.CfnDistribution
	Publish      *Function
	*pager
}

func statusBucket(c *config.Config) string    { return "oc-status-" + c.Account + "-" + c.Region }
func statusLogBucket(c *config.Config) string { return "oc-status-logs-" + c.Account + "-" + c.Region }
func statusRoleName(c *config.Config) string  { return functionRole(c, nil, "status") }

func newStatus(app awscdk.App, d *Deployment) *Status {
	c := d.Config
	s := part(app, c, c.Region, "Status", "OriginChain: the status page of a region")
	st := &Status{Stack: s, Name: statusBucket(c), pager: newPager(s, c, "originchain-page", "OriginChain "+c.Region, regionAlarms)}
	accesses := accessLogs(s)
	st.Bucket = awss3.NewBucket(s, jsii.String("Bucket"), &awss3.BucketProps{
		BucketName: jsii.String(st.Name), Versioned: jsii.Bool(true), RemovalPolicy: kept(), Encryption: awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL: jsii.Bool(true), MinimumTLSVersion: jsii.Number(minTLS), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED, ServerAccessLogsBucket: accesses, ServerAccessLogsPrefix: jsii.String("status/"),
		LifecycleRules: &[]*awss3.LifecycleRule{{Id: jsii.String("replaced"), NoncurrentVersionExpiration: awscdk.Duration_Days(jsii.Number(pastPages)), ExpiredObjectDeleteMarker: jsii.Bool(true)},
			{Id: jsii.String("abandoned-uploads"), AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(abandonedUploadDays))}},
	})
	public(st.Bucket, "It is made anew each minute from the registry of incidents, and holds nothing that not everybody may read")
	st.distribution(c, accesses)
	st.publish(d)
	for _, a := range []watched{fails(nil, "status", often), idle(nil, "status"), laidAside(nil, statusDead)} {
		st.alarm(a)
	}
	return st
}

// pageLogs is the bucket of who asked CloudFront for the page.
func (st *Status) pageLogs(c *config.Config, accesses awss3.Bucket) awss3.Bucket {
	b := awss3.NewBucket(st.Stack, jsii.String("PageLogs"), &awss3.BucketProps{
		BucketName: jsii.String(statusLogBucket(c)), Versioned: jsii.Bool(true), RemovalPolicy: kept(), Encryption: awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL: jsii.Bool(true), MinimumTLSVersion: jsii.Number(minTLS), BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		// CloudFront gives its logs away by a list, and by nothing else.
		ObjectOwnership: awss3.ObjectOwnership_OBJECT_WRITER,
		LifecycleRules: &[]*awss3.LifecycleRule{{Id: jsii.String("old"), Expiration: awscdk.Duration_Days(jsii.Number(accessLogDays)), NoncurrentVersionExpiration: awscdk.Duration_Days(jsii.Number(accessLogDeletedDays)),
			AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(abandonedUploadDays))}},
		ServerAccessLogsBucket: accesses, ServerAccessLogsPrefix: jsii.String("page-logs/"),
	})
	public(b, "It has who asked for a page that everybody may read, for a year; nothing is made from it")
	return b
}

// public says why a bucket of the page needs less than one of a tenant's data does.
func public(b awss3.Bucket, reason string) {
	for _, rule := range []string{"cdk-nag::S3BucketDefaultLockEnabled", "cdk-nag::S3BucketReplicationEnabled", "cdk-nag::S3DefaultEncryptionKMS",
		"cfn-guard::s3_bucket_default_encryption_kms_check", "cfn-guard::s3_bucket_object_lock_enabled_check"} {
		excuse(b, rule, reason)
	}
	excuse(b, "cfn-guard::s3_event_notifications_enabled_check", noEvents)
}

// excusePage says why rules about distributions do not fit this one.
func excusePage(d awscloudfront.CfnDistribution) {
	excuse(d, "cdk-nag::CloudFrontDistributionGeoRestrictions", "Customers are everywhere, and so is who may know of an incident")
	excuse(d, "cdk-nag::CloudFrontDistributionWAFIntegration", "Two files that are cached, and no input: a firewall for the web would cost more than all of the page, and keep nothing off")
	excuse(d, "cfn-guard::cloudfront_origin_failover_enabled_check", "A second bucket would hold what the same function writes: where the region is away both are as old")
	const certificate = "It has CloudFront's own name, whose certificate, and the oldest TLS with it, are CloudFront's; HTTPS and HSTS are forced"
	for _, rule := range []string{"cdk-nag::CloudFrontDistributionHttpsViewerNoOutdatedSSL", "cfn-guard::cloudfront_custom_ssl_certificate_check", "cfn-guard::cloudfront_security_policy_check", "cfn-guard::cloudfront_sni_enabled_check"} {
		excuse(d, rule, certificate)
	}
}

// distribution serves the bucket. It has CloudFront's own name and certificate, with which
// the oldest TLS is CloudFront's to choose.
func (st *Status) distribution(c *config.Config, accesses awss3.Bucket) {
	s := st.Stack
	control := awscloudfront.NewCfnOriginAccessControl(s, jsii.String("Access"), &awscloudfront.CfnOriginAccessControlProps{
		OriginAccessControlConfig: &awscloudfront.CfnOriginAccessControl_OriginAccessControlConfigProperty{Name: jsii.String("originchain-status-" + c.Region),
			OriginAccessControlOriginType: jsii.String("s3"), SigningBehavior: jsii.String("always"), SigningProtocol: jsii.String("sigv4")}})
	yes := jsii.Bool(true)
	headers := awscloudfront.NewCfnResponseHeadersPolicy(s, jsii.String("Headers"), &awscloudfront.CfnResponseHeadersPolicyProps{
		ResponseHeadersPolicyConfig: &awscloudfront.CfnResponseHeadersPolicy_ResponseHeadersPolicyConfigProperty{Name: jsii.String("originchain-status-" + c.Region),
			SecurityHeadersConfig: &awscloudfront.CfnResponseHeadersPolicy_SecurityHeadersConfigProperty{
				StrictTransportSecurity: &awscloudfront.CfnResponseHeadersPolicy_StrictTransportSecurityProperty{AccessControlMaxAgeSec: jsii.Number(hstsSeconds), IncludeSubdomains: yes, Override: yes},
				ContentTypeOptions:      &awscloudfront.CfnResponseHeadersPolicy_ContentTypeOptionsProperty{Override: yes},
				FrameOptions:            &awscloudfront.CfnResponseHeadersPolicy_FrameOptionsProperty{FrameOption: jsii.String("DENY"), Override: yes},
				ReferrerPolicy:          &awscloudfront.CfnResponseHeadersPolicy_ReferrerPolicyProperty{ReferrerPolicy: jsii.String("no-referrer"), Override: yes},
				// The page has a style of its own in it, and nothing else.
				ContentSecurityPolicy: &awscloudfront.CfnResponseHeadersPolicy_ContentSecurityPolicyProperty{Override: yes,
					ContentSecurityPolicy: jsii.String("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")}}}})
	config := &awscloudfront.CfnDistribution_DistributionConfigProperty{
		Enabled: yes, Comment: jsii.String("OriginChain status of " + c.Region), DefaultRootObject: jsii.String("index.html"), HttpVersion: jsii.String("http2and3"), Ipv6Enabled: yes, PriceClass: jsii.String("PriceClass_100"),
		Origins: &[]any{&awscloudfront.CfnDistribution_OriginProperty{Id: jsii.String("bucket"), DomainName: jsii.String(st.Name + ".s3." + c.Region + ".amazonaws.com"),
			OriginAccessControlId: control.AttrId(), S3OriginConfig: &awscloudfront.CfnDistribution_S3OriginConfigProperty{OriginAccessIdentity: jsii.String("")}}},
		DefaultCacheBehavior: &awscloudfront.CfnDistribution_DefaultCacheBehaviorProperty{TargetOriginId: jsii.String("bucket"), ViewerProtocolPolicy: jsii.String("redirect-to-https"), Compress: yes,
			AllowedMethods: list("GET", "HEAD"), CachedMethods: list("GET", "HEAD"), CachePolicyId: jsii.String(cachedAsTold), ResponseHeadersPolicyId: headers.AttrId()},
		ViewerCertificate: &awscloudfront.CfnDistribution_ViewerCertificateProperty{CloudFrontDefaultCertificate: yes},
		Restrictions:      &awscloudfront.CfnDistribution_RestrictionsProperty{GeoRestriction: &awscloudfront.CfnDistribution_GeoRestrictionProperty{RestrictionType: jsii.String("none")}},
	}
	var logs awss3.Bucket
	if !slices.Contains(withoutCloudFrontLogs(), c.Region) {
		logs = st.pageLogs(c, accesses)
		config.Logging = &awscloudfront.CfnDistribution_LoggingProperty{Bucket: jsii.String(statusLogBucket(c) + ".s3.amazonaws.com"), Prefix: jsii.String("page/"), IncludeCookies: jsii.Bool(false)}
	}
	st.Distribution = awscloudfront.NewCfnDistribution(s, jsii.String("Distribution"), &awscloudfront.CfnDistributionProps{DistributionConfig: config})
	excusePage(st.Distribution)
	if logs != nil {
		st.Distribution.Node().AddDependency(logs)
	} else {
		const none = "CloudFront gives no logs to buckets of this region"
		excuse(st.Distribution, "cdk-nag::CloudFrontDistributionAccessLogging", none)
		excuse(st.Distribution, "cfn-guard::cloudfront_access_logs_enabled_check", none)
	}
	st.Bucket.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("CloudFront"), Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudfront.amazonaws.com"), nil)},
		Actions: list("s3:GetObject"), Resources: list("arn:aws:s3:::" + st.Name + "/*"),
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceArn": "arn:aws:cloudfront::" + c.Account + ":distribution/" + *st.Distribution.Ref()}}}))
	awscdk.NewCfnOutput(s, jsii.String("StatusPage"), &awscdk.CfnOutputProps{Description: jsii.String("The status page"), Value: jsii.String("https://" + *st.Distribution.AttrDomainName() + "/")})
}

// withoutCloudFrontLogs are the regions whose buckets CloudFront gives no logs to.
func withoutCloudFrontLogs() []string {
	return []string{"af-south-1", "ap-east-1", "ap-east-2", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
		"ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1", "mx-central-1"}
}

// publish is the function, which alone puts files there.
func (st *Status) publish(d *Deployment) {
	c, s := d.Config, st.Stack
	f := newFunction(s, d, functionSpec{Name: "status", Says: "Publishes the status page of " + c.Region, MemoryMiB: 256, Timeout: seconds(statusSeconds),
		Env: map[string]string{"OC_CONTROL_REGISTRY": registryURL(c, controlScope), "OC_STATUS_BUCKET": st.Name}})
	st.Publish = f
	allowScope(f.Role, d, "Incidents", controlScope, "dynamodb:GetItem", "dynamodb:Query")
	objects := "arn:aws:s3:::" + st.Name + "/*"
	allow(f.Role, "Page", []string{objects}, nil, "s3:PutObject")
	excuseWildcard(f.Role, objects, "The files of the page, in a bucket that has no others", "Page")
	st.Bucket.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("OnlyTheFunctionPuts"), Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
		Actions: list("s3:PutObject"), Resources: list(objects), Conditions: &map[string]any{"ArnNotEquals": map[string]any{"aws:PrincipalArn": roleARN(c, statusRoleName(c))}}}))
	newDeadQueue(s, c, "SchedulesDead", statusDead)
	calls := newSchedule(s, c, schedule{id: "StatusSchedule", name: functionName(nil, "status"), role: "oc-status-schedule-" + c.Region, says: "The page is made anew", expression: everyMinute,
		target: functionARN(c, nil, "status"), action: "lambda:InvokeFunction", input: scheduled, dead: statusDead, retries: 0, seconds: 60})
	// A distribution takes minutes, and may be refused: a bucket with a page in it could not be
	// deleted again.
	calls.Node().AddDependency(st.Distribution)
	onceAMinute(s, f, "status")
}
