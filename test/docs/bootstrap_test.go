package docs

import (
	"encoding/json"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needed are actions without which CloudFormation cannot make, or delete again, a resource
// of a type: what its handlers are declared to call in the registry's schemas, with the
// properties that templates have. A type that the templates have must be here. Left out, as
// nothing has them: tables of S3, load balancers, and users and groups with a policy of ours,
// which a tear-down takes from them by hand.
var needed = map[string]string{
	"AWS::AutoScaling::AutoScalingGroup":     "autoscaling:CreateAutoScalingGroup autoscaling:UpdateAutoScalingGroup autoscaling:DeleteAutoScalingGroup iam:PassRole ec2:RunInstances autoscaling:DescribeAutoScalingGroups autoscaling:DescribeScalingActivities autoscaling:DescribeAutoScalingInstances autoscaling:DescribeInstanceRefreshes autoscaling:DescribeLifecycleHooks autoscaling:DescribeLoadBalancers autoscaling:DescribeLoadBalancerTargetGroups autoscaling:DescribeMetricCollectionTypes autoscaling:DescribeNotificationConfigurations autoscaling:DescribeTrafficSources autoscaling:DescribeWarmPool",
	"AWS::CloudFront::Distribution":          "cloudfront:CreateDistribution cloudfront:UpdateDistribution cloudfront:DeleteDistribution s3:GetBucketAcl s3:PutBucketAcl",
	"AWS::CloudFront::OriginAccessControl":   "cloudfront:CreateOriginAccessControl cloudfront:DeleteOriginAccessControl",
	"AWS::CloudFront::ResponseHeadersPolicy": "cloudfront:CreateResponseHeadersPolicy cloudfront:DeleteResponseHeadersPolicy",
	"AWS::CloudWatch::Alarm":                 "cloudwatch:PutMetricAlarm cloudwatch:DeleteAlarms",
	"AWS::CloudWatch::Dashboard":             "cloudwatch:PutDashboard cloudwatch:DeleteDashboards",
	"AWS::DynamoDB::Table":                   "dynamodb:CreateTable dynamodb:UpdateTable dynamodb:DeleteTable dynamodb:UpdateContinuousBackups kms:CreateGrant",
	"AWS::EC2::FlowLog":                      "ec2:CreateFlowLogs ec2:DeleteFlowLogs iam:PassRole",
	"AWS::EC2::LaunchTemplate":               "ec2:CreateLaunchTemplate ec2:CreateLaunchTemplateVersion ec2:DeleteLaunchTemplate",
	"AWS::EC2::NetworkInterface":             "ec2:CreateNetworkInterface ec2:DeleteNetworkInterface",
	"AWS::EC2::RouteTable":                   "ec2:CreateRouteTable ec2:DeleteRouteTable",
	"AWS::EC2::SecurityGroup":                "ec2:CreateSecurityGroup ec2:DeleteSecurityGroup ec2:AuthorizeSecurityGroupEgress ec2:RevokeSecurityGroupEgress",
	"AWS::EC2::SecurityGroupIngress":         "ec2:AuthorizeSecurityGroupIngress ec2:RevokeSecurityGroupIngress",
	"AWS::EC2::Subnet":                       "ec2:CreateSubnet ec2:DeleteSubnet ec2:DescribeSubnets ec2:DescribeNetworkAcls",
	"AWS::EC2::SubnetRouteTableAssociation":  "ec2:AssociateRouteTable ec2:DisassociateRouteTable",
	"AWS::EC2::VPC":                          "ec2:CreateVpc ec2:ModifyVpcAttribute ec2:DeleteVpc ec2:DescribeVpcs ec2:DescribeVpcAttribute ec2:DescribeNetworkAcls",
	"AWS::EC2::VPCEndpoint":                  "ec2:CreateVpcEndpoint ec2:ModifyVpcEndpoint ec2:DeleteVpcEndpoints vpce:AllowMultiRegion route53:AssociateVPCWithHostedZone",
	"AWS::EC2::Volume":                       "ec2:CreateVolume ec2:DeleteVolume ec2:ModifyVolume kms:GenerateDataKeyWithoutPlaintext kms:CreateGrant ec2:DescribeVolumes ec2:DescribeVolumeAttribute",
	"AWS::Events::Rule":                      "events:PutRule events:PutTargets events:RemoveTargets events:DeleteRule iam:PassRole",
	"AWS::IAM::InstanceProfile":              "iam:CreateInstanceProfile iam:AddRoleToInstanceProfile iam:DeleteInstanceProfile iam:PassRole",
	"AWS::IAM::ManagedPolicy":                "iam:CreatePolicy iam:CreatePolicyVersion iam:DeletePolicy iam:DeletePolicyVersion iam:ListPolicyVersions iam:ListEntitiesForPolicy iam:DetachRolePolicy",
	"AWS::IAM::OIDCProvider":                 "iam:CreateOpenIDConnectProvider iam:DeleteOpenIDConnectProvider iam:ListOpenIDConnectProviderTags",
	"AWS::IAM::Policy":                       "iam:PutRolePolicy iam:DeleteRolePolicy",
	"AWS::IAM::Role":                         "iam:CreateRole iam:DeleteRole iam:UpdateAssumeRolePolicy iam:PutRolePolicy",
	"AWS::KMS::Alias":                        "kms:CreateAlias kms:DeleteAlias",
	"AWS::KMS::Key":                          "kms:CreateKey kms:PutKeyPolicy kms:EnableKeyRotation kms:ScheduleKeyDeletion",
	"AWS::Lambda::EventInvokeConfig":         "lambda:PutFunctionEventInvokeConfig lambda:DeleteFunctionEventInvokeConfig",
	"AWS::Lambda::EventSourceMapping":        "lambda:CreateEventSourceMapping lambda:DeleteEventSourceMapping lambda:GetEventSourceMapping lambda:UpdateEventSourceMapping lambda:TagResource",
	"AWS::Lambda::Function":                  "lambda:CreateFunction lambda:UpdateFunctionCode lambda:DeleteFunction iam:PassRole s3:GetObject",
	"AWS::Logs::LogGroup":                    "logs:CreateLogGroup logs:PutRetentionPolicy logs:AssociateKmsKey logs:DeleteLogGroup logs:DescribeLogGroups",
	"AWS::Route53::HealthCheck":              "route53:CreateHealthCheck route53:DeleteHealthCheck cloudwatch:DescribeAlarms",
	"AWS::Route53::RecordSet":                "route53:ChangeResourceRecordSets route53:GetChange route53:GetHostedZone route53:ListHostedZones route53:ListResourceRecordSets",
	"AWS::S3::Bucket":                        "s3:CreateBucket s3:PutEncryptionConfiguration s3:PutBucketVersioning s3:PutBucketPublicAccessBlock s3:PutLifecycleConfiguration s3:PutBucketLogging s3:PutBucketOwnershipControls s3:DeleteBucket s3:GetBucketAcl",
	"AWS::S3::BucketPolicy":                  "s3:PutBucketPolicy s3:DeleteBucketPolicy",
	"AWS::SNS::Topic":                        "sns:CreateTopic sns:DeleteTopic",
	"AWS::SNS::TopicPolicy":                  "sns:SetTopicAttributes",
	"AWS::SQS::Queue":                        "sqs:CreateQueue sqs:DeleteQueue",
	"AWS::SQS::QueuePolicy":                  "sqs:SetQueueAttributes",
	"AWS::SSM::Document":                     "ssm:CreateDocument ssm:UpdateDocument ssm:DeleteDocument",
	"AWS::SSM::Parameter":                    "ssm:PutParameter ssm:DeleteParameter",
	"AWS::Scheduler::Schedule":               "scheduler:CreateSchedule scheduler:DeleteSchedule iam:PassRole",
	"AWS::SecretsManager::Secret":            "secretsmanager:CreateSecret secretsmanager:DeleteSecret secretsmanager:GetRandomPassword",
	"AWS::StepFunctions::StateMachine":       "states:CreateStateMachine states:UpdateStateMachine states:DeleteStateMachine iam:PassRole logs:CreateLogDelivery",
}

// tagged are the actions that tags of a type need as well, to be put and taken away.
var tagged = map[string]string{
	"AWS::AutoScaling::AutoScalingGroup": "autoscaling:CreateOrUpdateTags autoscaling:DeleteTags",
	"AWS::CloudFront::Distribution":      "cloudfront:TagResource cloudfront:UntagResource",
	"AWS::CloudWatch::Alarm":             "cloudwatch:TagResource cloudwatch:UntagResource",
	"AWS::CloudWatch::Dashboard":         "cloudwatch:TagResource cloudwatch:UntagResource",
	"AWS::DynamoDB::Table":               "dynamodb:TagResource dynamodb:UntagResource",
	"AWS::EC2::FlowLog":                  "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::NetworkInterface":         "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::RouteTable":               "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::SecurityGroup":            "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::Subnet":                   "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::VPC":                      "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::VPCEndpoint":              "ec2:CreateTags ec2:DeleteTags",
	"AWS::EC2::Volume":                   "ec2:CreateTags ec2:DeleteTags",
	"AWS::Events::Rule":                  "events:TagResource events:UntagResource",
	"AWS::IAM::OIDCProvider":             "iam:TagOpenIDConnectProvider iam:UntagOpenIDConnectProvider",
	"AWS::IAM::Role":                     "iam:TagRole iam:UntagRole",
	"AWS::KMS::Key":                      "kms:TagResource kms:UntagResource",
	"AWS::Lambda::EventSourceMapping":    "lambda:TagResource lambda:UntagResource",
	"AWS::Lambda::Function":              "lambda:TagResource lambda:UntagResource",
	"AWS::Logs::LogGroup":                "logs:TagResource logs:UntagResource",
	"AWS::Route53::HealthCheck":          "route53:ChangeTagsForResource route53:ListTagsForResource",
	"AWS::S3::Bucket":                    "s3:PutBucketTagging s3:GetBucketTagging",
	"AWS::SNS::Topic":                    "sns:TagResource sns:UntagResource",
	"AWS::SQS::Queue":                    "sqs:TagQueue sqs:UntagQueue",
	"AWS::SSM::Document":                 "ssm:AddTagsToResource ssm:RemoveTagsFromResource",
	"AWS::SSM::Parameter":                "ssm:AddTagsToResource ssm:RemoveTagsFromResource",
	"AWS::SecretsManager::Secret":        "secretsmanager:TagResource secretsmanager:UntagResource",
	"AWS::StepFunctions::StateMachine":   "states:TagResource states:UntagResource",
}

// hasTags says whether a resource has any: CloudFormation puts them on when it makes it.
func hasTags(r kept) bool {
	for _, property := range []string{"Tags", "HealthCheckTags"} {
		if _, ok := r.Properties[property]; ok {
			return true
		}
	}
	return false
}

// own is how what a type has is named in an ARN: %s is what the property says or refers to,
// each of a list, and what CloudFormation makes up where there is none.
var own = map[string]struct{ property, arn string }{
	"AWS::AutoScaling::AutoScalingGroup":     {"AutoScalingGroupName", "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/%s"},
	"AWS::CloudFront::Distribution":          {"", "arn:aws:cloudfront::*:distribution/%s"},
	"AWS::CloudFront::OriginAccessControl":   {"", "arn:aws:cloudfront::*:origin-access-control/%s"},
	"AWS::CloudFront::ResponseHeadersPolicy": {"", "arn:aws:cloudfront::*:response-headers-policy/%s"},
	"AWS::CloudWatch::Alarm":                 {"AlarmName", "arn:aws:cloudwatch:*:*:alarm:%s"},
	"AWS::CloudWatch::Dashboard":             {"DashboardName", "arn:aws:cloudwatch::*:dashboard/%s"},
	"AWS::DynamoDB::Table":                   {"TableName", "arn:aws:dynamodb:*:*:table/%s"},
	"AWS::EC2::FlowLog":                      {"", "arn:aws:ec2:*:*:vpc-flow-log/%s"},
	"AWS::EC2::LaunchTemplate":               {"", "arn:aws:ec2:*:*:launch-template/%s"},
	"AWS::EC2::NetworkInterface":             {"", "arn:aws:ec2:*:*:network-interface/%s"},
	"AWS::EC2::RouteTable":                   {"", "arn:aws:ec2:*:*:route-table/%s"},
	"AWS::EC2::SecurityGroup":                {"", "arn:aws:ec2:*:*:security-group/%s"},
	"AWS::EC2::SecurityGroupIngress":         {"", "arn:aws:ec2:*:*:security-group-rule/%s"},
	"AWS::EC2::Subnet":                       {"", "arn:aws:ec2:*:*:subnet/%s"},
	"AWS::EC2::SubnetRouteTableAssociation":  {"", "arn:aws:ec2:*:*:route-table/%s"},
	"AWS::EC2::VPC":                          {"", "arn:aws:ec2:*:*:vpc/%s"},
	"AWS::EC2::VPCEndpoint":                  {"", "arn:aws:ec2:*:*:vpc-endpoint/%s"},
	"AWS::EC2::Volume":                       {"", "arn:aws:ec2:*:*:volume/%s"},
	"AWS::Events::Rule":                      {"Name", "arn:aws:events:*:*:rule/%s"},
	"AWS::IAM::InstanceProfile":              {"InstanceProfileName", "arn:aws:iam::*:instance-profile/%s"},
	"AWS::IAM::ManagedPolicy":                {"ManagedPolicyName", "arn:aws:iam::*:policy/%s"},
	"AWS::IAM::OIDCProvider":                 {"Url", "arn:aws:iam::*:oidc-provider/%s"},
	"AWS::IAM::Policy":                       {"Roles", "arn:aws:iam::*:role/%s"},
	"AWS::IAM::Role":                         {"RoleName", "arn:aws:iam::*:role/%s"},
	"AWS::KMS::Alias":                        {"AliasName", "arn:aws:kms:*:*:%s"},
	"AWS::KMS::Key":                          {"", "arn:aws:kms:*:*:key/%s"},
	"AWS::Lambda::EventInvokeConfig":         {"FunctionName", "arn:aws:lambda:*:*:function:%s"},
	"AWS::Lambda::EventSourceMapping":        {"", "arn:aws:lambda:*:*:event-source-mapping:%s"},
	"AWS::Lambda::Function":                  {"FunctionName", "arn:aws:lambda:*:*:function:%s"},
	"AWS::Logs::LogGroup":                    {"LogGroupName", "arn:aws:logs:*:*:log-group:%s"},
	"AWS::Route53::HealthCheck":              {"", "arn:aws:route53:::healthcheck/%s"},
	"AWS::Route53::RecordSet":                {"HostedZoneId", "arn:aws:route53:::hostedzone/%s"},
	"AWS::S3::Bucket":                        {"BucketName", "arn:aws:s3:::%s"},
	"AWS::S3::BucketPolicy":                  {"Bucket", "arn:aws:s3:::%s"},
	"AWS::SNS::Topic":                        {"TopicName", "arn:aws:sns:*:*:%s"},
	"AWS::SNS::TopicPolicy":                  {"Topics", "arn:aws:sns:*:*:%s"},
	"AWS::SQS::Queue":                        {"QueueName", "arn:aws:sqs:*:*:%s"},
	"AWS::SQS::QueuePolicy":                  {"Queues", "arn:aws:sqs:*:*:%s"},
	"AWS::SSM::Document":                     {"Name", "arn:aws:ssm:*:*:document/%s"},
	"AWS::SSM::Parameter":                    {"Name", "arn:aws:ssm:*:*:parameter%s"},
	"AWS::Scheduler::Schedule":               {"Name", "arn:aws:scheduler:*:*:schedule/default/%s"},
	"AWS::SecretsManager::Secret":            {"Name", "arn:aws:secretsmanager:*:*:secret:%s"},
	"AWS::StepFunctions::StateMachine":       {"StateMachineName", "arn:aws:states:*:*:stateMachine:%s"},
}

// elsewhere are needed actions on something else than what is made: of any type, or of one.
var elsewhere = map[string]string{
	"iam:PassRole":      "arn:aws:iam::*:role/oc-acme-node", // and see passed
	"s3:GetObject":      "arn:aws:s3:::cdk-hnb659fds-assets-111122223333-eu-central-1/function.zip",
	"route53:GetChange": "arn:aws:route53:::change/C1",
	"AWS::IAM::ManagedPolicy iam:DetachRolePolicy":  "arn:aws:iam::*:role/oc-acme-node",
	"AWS::CloudFront::Distribution s3:GetBucketAcl": "arn:aws:s3:::oc-status-logs-111122223333-eu-central-1",
	"AWS::CloudFront::Distribution s3:PutBucketAcl": "arn:aws:s3:::oc-status-logs-111122223333-eu-central-1",
}

// foreign are what an account may have besides, which an action must not reach.
var foreign = map[string]string{
	"logs:DeleteLogGroup":                "arn:aws:logs:*:*:log-group:/aws/cloudtrail/audit",
	"logs:DeleteRetentionPolicy":         "arn:aws:logs:*:*:log-group:aws-waf-logs-shop",
	"logs:DisassociateKmsKey":            "arn:aws:logs:*:*:log-group:/aws/lambda/shop",
	"iam:DeleteRole":                     "arn:aws:iam::*:role/admin",
	"iam:DeletePolicy":                   "arn:aws:iam::*:policy/shop",
	"iam:PassRole":                       "arn:aws:iam::*:role/admin",
	"iam:CreateServiceLinkedRole":        "arn:aws:iam::*:role/admin",
	"iam:DeleteInstanceProfile":          "arn:aws:iam::*:instance-profile/shop",
	"iam:DeleteOpenIDConnectProvider":    "arn:aws:iam::*:oidc-provider/shop.example",
	"ssm:PutParameter":                   "arn:aws:ssm:*:*:parameter/shop",
	"lambda:DeleteFunction":              someFunction,
	"lambda:TagResource":                 someFunction,
	"s3:DeleteBucket":                    "arn:aws:s3:::shop",
	"s3:PutBucketAcl":                    "arn:aws:s3:::shop",
	"dynamodb:DeleteTable":               "arn:aws:dynamodb:*:*:table/shop",
	"sqs:DeleteQueue":                    "arn:aws:sqs:*:*:shop",
	"sns:DeleteTopic":                    "arn:aws:sns:*:*:shop",
	"ssm:DeleteDocument":                 "arn:aws:ssm:*:*:document/shop",
	"events:DeleteRule":                  "arn:aws:events:*:*:rule/shop",
	"scheduler:DeleteSchedule":           "arn:aws:scheduler:*:*:schedule/default/shop",
	"states:DeleteStateMachine":          "arn:aws:states:*:*:stateMachine:shop",
	"secretsmanager:DeleteSecret":        "arn:aws:secretsmanager:*:*:secret:shop",
	"autoscaling:DeleteAutoScalingGroup": "arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/shop",
}

// someFunction is one that is not ours.
const someFunction = "arn:aws:lambda:*:*:function:shop"

// texts is one text or a list of them.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *texts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = texts{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

type grant struct {
	Sid, Effect      string
	Action, Resource texts
	Condition        map[string]map[string]texts
}

// maxPolicy is how many characters IAM takes for a policy, white space aside.
const maxPolicy = 6144

func bootstrap(t *testing.T) (all []grant) {
	t.Helper()
	files, err := filepath.Glob(path.Join(repository, "infra/bootstrap/*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d policies: %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(regexp.MustCompile(`\s`).ReplaceAll(text, nil)); n > maxPolicy {
			t.Errorf("%s has %d characters, of which IAM takes %d", f, n, maxPolicy)
		}
		var p struct{ Statement []grant }
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, p.Statement...)
	}
	return all
}

// stack is a golden template.
type stack struct {
	file, name string
	resources  map[string]kept
}

func stacks(t *testing.T) (all []stack) {
	t.Helper()
	for file, resources := range templates(t) {
		all = append(all, stack{file, "OriginChain-" + strings.TrimSuffix(path.Base(file), ".json"), resources})
	}
	return all
}

// called are the names that a value in a template is, or refers to.
func (m *stack) called(t *testing.T, v any) (all []string) {
	t.Helper()
	switch v := v.(type) {
	case string:
		return []string{strings.TrimPrefix(v, "https://")}
	case []any:
		for _, one := range v {
			all = append(all, m.called(t, one)...)
		}
		return all
	case map[string]any:
		if id, _ := v["Ref"].(string); m.resources[id].Type != "" {
			return m.names(t, id)
		}
	}
	t.Errorf("%s: say in this test how %v is called", m.file, v)
	return nil
}

// names are those of a resource, as CloudFormation gives them: what it makes up begins with
// the stack's, and is in small letters for a bucket.
func (m *stack) names(t *testing.T, id string) []string {
	t.Helper()
	r := m.resources[id]
	if v, ok := r.Properties[own[r.Type].property]; ok {
		return m.called(t, v)
	}
	name := m.name + "-" + id + "-1A2B3C4D5E6F"
	if r.Type == "AWS::S3::Bucket" {
		name = strings.ToLower(name)
	}
	return []string{name}
}

// passed: CloudFormation may pass each role of the templates, to the services that take them
// and to no others.
func passed(t *testing.T, all []stack, given map[string][]grant) {
	t.Helper()
	services := make(map[string]bool)
	for _, m := range all {
		for id, r := range m.resources {
			document, _ := r.Properties["AssumeRolePolicyDocument"].(map[string]any)
			trust, _ := document["Statement"].([]any)
			for _, s := range trust {
				who, _ := s.(map[string]any)["Principal"].(map[string]any)
				service, ok := who["Service"].(string)
				if !ok {
					continue // which nobody passes
				}
				services[service] = true
				for _, name := range m.names(t, id) {
					if !covers(given["iam:PassRole"], strings.Replace(own[r.Type].arn, "%s", name, 1)) {
						t.Errorf("%s has the role %s of %s, which CloudFormation may not pass", m.file, name, service)
					}
				}
			}
		}
	}
	var to texts
	for _, g := range given["iam:PassRole"] {
		to = append(to, g.Condition["StringEquals"]["iam:PassedToService"]...)
	}
	slices.Sort(to)
	if diff := cmp.Diff(texts(slices.Sorted(maps.Keys(services))), to); diff != "" {
		t.Errorf("the services that take roles, and those that roles may be passed to (-want +got)\n%s", diff)
	}
}

// mapped: CloudFormation may map sources of events to the functions of the templates, and to
// no others.
func mapped(t *testing.T, all []stack, given map[string][]grant) {
	t.Helper()
	var functions []string
	for _, m := range all {
		for _, r := range m.resources {
			if r.Type == "AWS::Lambda::EventSourceMapping" {
				for _, name := range m.called(t, r.Properties["FunctionName"]) {
					functions = append(functions, strings.Replace(own["AWS::Lambda::Function"].arn, "%s", name, 1))
				}
			}
		}
	}
	if len(functions) == 0 {
		t.Error("no template has a source of events")
	}
	for _, a := range []string{"lambda:CreateEventSourceMapping", "lambda:UpdateEventSourceMapping", "lambda:DeleteEventSourceMapping"} {
		if len(given[a]) == 0 {
			t.Errorf("CloudFormation may not %s", a)
		}
		for _, g := range given[a] {
			to := g.Condition["ArnLike"]["lambda:FunctionArn"]
			for _, f := range functions {
				if !to.match(f) {
					t.Errorf("statement %s does not allow %s of %s", g.Sid, a, f)
				}
			}
			if to.match(someFunction) {
				t.Errorf("statement %s allows %s of %s, which is not ours", g.Sid, a, someFunction)
			}
		}
	}
}

// bounds are the conditions that statements have, by an action: what cannot be told by a
// resource. Others have none.
var bounds = map[string][2]string{
	"iam:PassRole":                    {"StringEquals", "iam:PassedToService"},
	"iam:CreateServiceLinkedRole":     {"StringEquals", "iam:AWSServiceName"},
	"lambda:CreateEventSourceMapping": {"ArnLike", "lambda:FunctionArn"},
	"lambda:UpdateEventSourceMapping": {"ArnLike", "lambda:FunctionArn"},
	"lambda:DeleteEventSourceMapping": {"ArnLike", "lambda:FunctionArn"},
	"kms:CreateGrant":                 {"Bool", "kms:GrantIsForAWSResource"},
}

// bound: what can only be told by a condition has that one, and nothing foreign is in reach.
func bound(t *testing.T, given map[string][]grant) {
	t.Helper()
	for a, grants := range given {
		by, is := bounds[a]
		for _, g := range grants {
			switch {
			case !is && len(g.Condition) != 0:
				t.Errorf("statement %s allows %s under a condition that this test does not know: %v", g.Sid, a, g.Condition)
			case is && (len(g.Condition) != 1 || len(g.Condition[by[0]]) != 1 || len(g.Condition[by[0]][by[1]]) == 0):
				t.Errorf("statement %s allows %s, and is not bound by %s alone: %v", g.Sid, a, by[1], g.Condition)
			}
		}
	}
	for a, want := range map[string]string{"iam:CreateServiceLinkedRole": "autoscaling.amazonaws.com", "kms:CreateGrant": "true"} {
		for _, g := range given[a] {
			if got := g.Condition[bounds[a][0]][bounds[a][1]]; !slices.Equal(got, texts{want}) {
				t.Errorf("statement %s allows %s of %v, want %s", g.Sid, a, got, want)
			}
		}
	}
	for a, arn := range foreign {
		if len(given[a]) == 0 || covers(given[a], arn) {
			t.Errorf("CloudFormation may %s on %s, which is not ours, or on nothing", a, arn)
		}
	}
}

// plain are the statements by the actions that they allow, and the services of those.
func plain(t *testing.T, all []grant) (given map[string][]grant, services map[string]bool) {
	t.Helper()
	given, services = make(map[string][]grant), make(map[string]bool)
	for _, g := range all {
		if g.Effect != "Allow" || len(g.Action) == 0 || len(g.Resource) == 0 {
			t.Errorf("statement %s is not a plain one: %+v", g.Sid, g)
		}
		for _, a := range g.Action {
			if strings.Contains(a, "*") {
				t.Errorf("statement %s allows %s: name the actions", g.Sid, a)
			}
			given[a] = append(given[a], g)
			service, _, _ := strings.Cut(a, ":")
			services[service] = true
			if strings.HasPrefix(a, "iam:") && slices.Contains(g.Resource, "*") {
				t.Errorf("statement %s allows %s on everything", g.Sid, a)
			}
		}
	}
	return given, services
}

// on are the ARNs that an action is needed on for a resource.
func (m *stack) on(t *testing.T, id, action string) (arns []string) {
	t.Helper()
	r := m.resources[id]
	if arn := elsewhere[r.Type+" "+action] + elsewhere[action]; arn != "" {
		return []string{arn}
	}
	for _, name := range m.names(t, id) {
		arns = append(arns, strings.Replace(own[r.Type].arn, "%s", name, 1))
	}
	return arns
}

func TestBootstrapGivesWhatTemplatesNeedAndNoMore(t *testing.T) {
	given, services := plain(t, bootstrap(t))
	all := stacks(t)
	bound(t, given)
	passed(t, all, given)
	mapped(t, all, given)
	needs := make(map[string]bool)
	for _, m := range all {
		for id, r := range m.resources {
			if needed[r.Type] == "" || own[r.Type].arn == "" {
				t.Errorf("%s has %s, of type %s: say in this test what it needs and how it is called", m.file, id, r.Type)
			}
			actions := needed[r.Type]
			if hasTags(r) {
				if tagged[r.Type] == "" {
					t.Errorf("%s has %s, of type %s, with tags: say in this test what those need", m.file, id, r.Type)
				}
				actions += " " + tagged[r.Type]
			}
			for a := range strings.FieldsSeq(actions) {
				service, _, _ := strings.Cut(a, ":")
				needs[service] = true
				for _, arn := range m.on(t, id, a) {
					if !covers(given[a], arn) {
						t.Errorf("%s has %s, of type %s, and CloudFormation may not %s on %s", m.file, id, r.Type, a, arn)
					}
				}
			}
		}
	}
	for service := range services {
		if !needs[service] {
			t.Errorf("the policies allow actions of %s, of which the templates have nothing", service)
		}
	}
}

// match: one of the patterns does.
func (s texts) match(arn string) bool {
	return slices.ContainsFunc(s, func(pattern string) bool {
		quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		return regexp.MustCompile("^" + quoted + "$").MatchString(arn)
	})
}

// covers: a resource of one of the statements matches the ARN.
func covers(all []grant, arn string) bool {
	return slices.ContainsFunc(all, func(g grant) bool { return g.Resource.match(arn) })
}
