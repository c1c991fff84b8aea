package stack_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"
)

// TestTheStatusPage: everybody reads it, by way of CloudFront alone, and one function writes it.
func TestTheStatusPage(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		tm, raw := w.stacks["OriginChain-Status"], w.raw["OriginChain-Status"]
		name := "oc-status-" + w.config.Account + "-" + w.config.Region
		raw.HasResource(jsii.String("AWS::S3::Bucket"), map[string]any{"DeletionPolicy": "RetainExceptOnCreate", "Properties": map[string]any{"BucketName": name, "VersioningConfiguration": map[string]any{"Status": "Enabled"},
			"OwnershipControls":              map[string]any{"Rules": []any{map[string]any{"ObjectOwnership": "BucketOwnerEnforced"}}},
			"PublicAccessBlockConfiguration": map[string]any{"BlockPublicAcls": true, "BlockPublicPolicy": true, "IgnorePublicAcls": true, "RestrictPublicBuckets": true}}})
		var policy []statement
		distribution := ""
		for id := range tm.resources("AWS::CloudFront::Distribution") {
			distribution = "arn:aws:cloudfront::" + w.config.Account + ":distribution/<" + id + ">"
		}
		for _, p := range tm.resources("AWS::S3::BucketPolicy") {
			if strings.HasPrefix(tm.resolve(at(p, "Properties", "Bucket")), "<Bucket") {
				policy = statements(t, at(p, "Properties", "PolicyDocument"))
			}
		}
		account := "arn:aws:iam::" + w.config.Account + ":role/"
		function := account + "oc-status-" + w.config.Region
		for what, c := range map[string]struct {
			who, action string
			context     map[string]string
			want        string
			allowed     bool
		}{
			"CloudFront reads":          {"", "s3:GetObject", map[string]string{"aws:SourceArn": distribution}, "", true},
			"another distribution":      {"", "s3:GetObject", map[string]string{"aws:SourceArn": distribution + "x"}, "", false},
			"anybody reads":             {"", "s3:GetObject", nil, "", false},
			"CloudFront writes":         {"", "s3:PutObject", map[string]string{"aws:SourceArn": distribution}, "OnlyTheFunctionPuts!", false},
			"the function writes":       {function, "s3:PutObject", nil, "", false}, // its own policy allows that
			"an administrator writes":   {account + "Admin", "s3:PutObject", nil, "OnlyTheFunctionPuts!", false},
			"without TLS":               {"", "s3:GetObject", map[string]string{"aws:SourceArn": distribution, "aws:SecureTransport": "false"}, "!", true},
			"with an old TLS":           {function, "s3:PutObject", map[string]string{"s3:TlsVersion": "1.1"}, "!", false},
			"the function of another's": {account + "oc-status-us-east-1", "s3:PutObject", nil, "OnlyTheFunctionPuts!", false},
		} {
			r := request{c.who, c.action, "arn:aws:s3:::" + name + "/index.html", map[string]string{"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}}
			for k, v := range c.context {
				r.context[k] = v
			}
			if got := tm.denied(t, policy, r); got != c.want || tm.allowed(t, policy, r) != c.allowed {
				t.Errorf("%s: denied by %q, want %q; allowed %v", what, got, c.want, !c.allowed)
			}
		}
		may := tm.policyOf(t, "Rolestatus")
		for action, want := range map[string]bool{"s3:PutObject": true, "s3:DeleteObject": false, "s3:GetObject": false, "s3:PutBucketPolicy": false} {
			if got := tm.allowed(t, may, request{action: action, resource: "arn:aws:s3:::" + name + "/index.html"}); got != want {
				t.Errorf("the function may %s: %v", action, got)
			}
		}
		for _, s := range may {
			if slices.ContainsFunc(s.actions(), func(a string) bool {
				return strings.HasPrefix(a, "dynamodb:") && a != "dynamodb:GetItem" && a != "dynamodb:Query"
			}) {
				t.Errorf("the function may %q", s.actions())
			}
		}
		env := at(tm.the(t, "AWS::Lambda::Function"), "Environment", "Variables")
		if diff := cmp.Diff(map[string]any{"OC_STATUS_BUCKET": name, "OC_CONTROL_REGISTRY": "dynamodb://originchain-registry/control?region=" + w.config.Region}, env); diff != "" {
			t.Error(diff)
		}
	}
}

// TestNoPageBeforeItIsServed: while the distribution is being made nothing is put into the
// bucket, which could not be deleted with it.
func TestNoPageBeforeItIsServed(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		tm := deploy(t, d).stacks["OriginChain-Status"]
		for id, s := range tm.resources("AWS::Scheduler::Schedule") {
			first, _ := s["DependsOn"].([]any)
			for distribution := range tm.resources("AWS::CloudFront::Distribution") {
				if !slices.Contains(first, any(distribution)) {
					t.Errorf("%s depends on %v, and not on %s", id, first, distribution)
				}
			}
		}
	}
}

// TestTheStatusPageIsServedSafely: by TLS, with headers that keep it what it is, and noted.
func TestTheStatusPageIsServedSafely(t *testing.T) {
	w := deploy(t, "tiers")
	tm, raw := w.stacks["OriginChain-Status"], w.raw["OriginChain-Status"]
	c := tm.the(t, "AWS::CloudFront::Distribution")["DistributionConfig"]
	for _, want := range []struct {
		path []any
		want any
	}{
		{[]any{"DefaultCacheBehavior", "ViewerProtocolPolicy"}, "redirect-to-https"}, {[]any{"DefaultCacheBehavior", "AllowedMethods"}, []any{"GET", "HEAD"}},
		{[]any{"DefaultRootObject"}, "index.html"}, {[]any{"Enabled"}, true}, {[]any{"Logging", "Bucket"}, "oc-status-logs-111122223333-eu-central-1.s3.amazonaws.com"},
		{[]any{"DefaultCacheBehavior", "ResponseHeadersPolicyId"}, map[string]any{"Fn::GetAtt": []any{"Headers", "Id"}}},
		{[]any{"Origins", 0, "OriginAccessControlId"}, map[string]any{"Fn::GetAtt": []any{"Access", "Id"}}},
		{[]any{"Origins", 0, "DomainName"}, "oc-status-111122223333-eu-central-1.s3.eu-central-1.amazonaws.com"},
	} {
		if diff := cmp.Diff(want.want, at(c, want.path...)); diff != "" {
			t.Errorf("%v (-want +got)\n%s", want.path, diff)
		}
	}
	raw.HasResourceProperties(jsii.String("AWS::CloudFront::OriginAccessControl"), map[string]any{"OriginAccessControlConfig": map[string]any{"SigningBehavior": "always", "SigningProtocol": "sigv4", "OriginAccessControlOriginType": "s3"}})
	raw.HasResourceProperties(jsii.String("AWS::CloudFront::ResponseHeadersPolicy"), map[string]any{"ResponseHeadersPolicyConfig": map[string]any{"SecurityHeadersConfig": map[string]any{
		"StrictTransportSecurity": map[string]any{"AccessControlMaxAgeSec": 63072000, "IncludeSubdomains": true, "Override": true}, "FrameOptions": map[string]any{"FrameOption": "DENY", "Override": true},
		"ContentTypeOptions": map[string]any{"Override": true}, "ReferrerPolicy": map[string]any{"ReferrerPolicy": "no-referrer", "Override": true},
		"ContentSecurityPolicy": map[string]any{"Override": true, "ContentSecurityPolicy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}}}})
}

// TestRegionsThatCloudFrontGivesNoLogs: the page is there all the same.
func TestRegionsThatCloudFrontGivesNoLogs(t *testing.T) {
	w := synthesize(t, "far", []byte(`{"account": "111122223333", "region": "eu-central-2", "mail_from": "a@example.com"}`))
	tm := w.stacks["OriginChain-Status"]
	if c := tm.the(t, "AWS::CloudFront::Distribution")["DistributionConfig"]; at(c, "Logging") != nil {
		t.Errorf("%v", at(c, "Logging"))
	}
	if w.stacks["OriginChain-Pipeline"] != nil {
		t.Error("there is a pipeline, and nobody has asked for one")
	}
}

// TestWhoDeploys: a job of the one repository, on its branch or in its environment, and
// nobody whose name is only like it; and to do what a deployment does.
func TestWhoDeploys(t *testing.T) {
	type ask struct{ role, sub, aud string }
	for name, c := range map[string]struct {
		pipeline string
		deploys  string
	}{
		"an environment": {`{"repository": "example/database", "branch": "release", "environment": "production"}`, "repo:example/database:environment:production"},
		"a branch":       {`{"repository": "example/database", "provider_exists": true}`, "repo:example/database:ref:refs/heads/main"},
	} {
		t.Run(name, func(t *testing.T) {
			w := synthesize(t, "pipeline", []byte(`{"account": "111122223333", "region": "eu-central-1", "mail_from": "a@example.com", "pipeline": `+c.pipeline+`}`))
			tm := w.stacks["OriginChain-Pipeline"]
			branch := "repo:example/database:ref:refs/heads/" + map[bool]string{true: "release", false: "main"}[name == "an environment"]
			for a, want := range map[ask]bool{
				{"Deploy", c.deploys, "sts.amazonaws.com"}: true, {"Deploy", "repo:example/database:pull_request", "sts.amazonaws.com"}: false, {"Deploy", c.deploys, "other"}: false, {"Deploy", c.deploys, ""}: false,
				{"Deploy", c.deploys + "x", "sts.amazonaws.com"}: false, {"Deploy", "repo:example/database-fork:ref:refs/heads/main", "sts.amazonaws.com"}: false, {"Deploy", "repo:other/database:environment:production", "sts.amazonaws.com"}: false,
				{"Deploy", "", "sts.amazonaws.com"}: false, {"Deploy", branch, "sts.amazonaws.com"}: branch == c.deploys,
				{"Diff", branch, "sts.amazonaws.com"}: true, {"Diff", "repo:example/database:pull_request", "sts.amazonaws.com"}: true, {"Diff", "repo:other/database:pull_request", "sts.amazonaws.com"}: false,
				{"Diff", "repo:example/database:ref:refs/heads/feature", "sts.amazonaws.com"}: false,
			} {
				trust := statements(t, at(tm.role(t, a.role), "Properties", "AssumeRolePolicyDocument"))
				for operator := range trust[0].Condition {
					if operator != "StringEquals" || len(trust) != 1 {
						t.Errorf("%s is bound by %s", a.role, operator)
					}
				}
				trust[0].Resource = "*"
				r := request{action: "sts:AssumeRoleWithWebIdentity", resource: "x", context: map[string]string{}}
				for k, v := range map[string]string{"token.actions.githubusercontent.com:sub": a.sub, "token.actions.githubusercontent.com:aud": a.aud} {
					if v != "" {
						r.context[k] = v
					}
				}
				if got := tm.allowed(t, trust, r); got != want {
					t.Errorf("%+v: %v, want %v", a, got, want)
				}
			}
			exists := strings.Contains(c.pipeline, "provider_exists")
			if n := len(tm.resources("AWS::IAM::OIDCProvider")); (n == 0) != exists {
				t.Errorf("%d providers", n)
			}
			for role, kinds := range map[string][]string{"Deploy": {"deploy", "file-publishing", "lookup"}, "Diff": {"lookup"}} {
				var want []string
				for _, k := range kinds {
					want = append(want, "arn:aws:iam::111122223333:role/cdk-hnb659fds-"+k+"-role-111122223333-eu-central-1")
				}
				policy := tm.policyOf(t, role)
				if len(policy) != 1 || !slices.Equal(policy[0].actions(), []string{"sts:AssumeRole"}) || !slices.Equal(tm.texts(policy[0].Resource), want) || policy[0].Condition != nil {
					t.Errorf("%s may %+v", role, policy)
				}
			}
		})
	}
}

// role is that of an id.
func (tm template) role(t *testing.T, id string) map[string]any {
	t.Helper()
	for name, r := range tm.resources("AWS::IAM::Role") {
		if strings.HasPrefix(name, id) {
			return r
		}
	}
	t.Fatalf("there is no role %s", id)
	return nil
}
