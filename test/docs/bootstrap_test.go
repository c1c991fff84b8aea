package docs

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

// fixed are names that templates give, by the property that has them, and the action whose
// statement must cover them; %s is the name in an ARN.
var fixed = map[string]struct{ property, action, arn string }{
	"AWS::DynamoDB::Table":             {"TableName", "dynamodb:CreateTable", "arn:aws:dynamodb:*:*:table/%s"},
	"AWS::Events::Rule":                {"Name", "events:PutRule", "arn:aws:events:*:*:rule/%s"},
	"AWS::IAM::ManagedPolicy":          {"ManagedPolicyName", "iam:CreatePolicy", "arn:aws:iam::*:policy/%s"},
	"AWS::IAM::Role":                   {"RoleName", "iam:CreateRole", "arn:aws:iam::*:role/%s"},
	"AWS::Logs::LogGroup":              {"LogGroupName", "logs:DeleteLogGroup", "arn:aws:logs:*:*:log-group:%s"},
	"AWS::Lambda::Function":            {"FunctionName", "lambda:CreateFunction", "arn:aws:lambda:*:*:function:%s"},
	"AWS::S3::Bucket":                  {"BucketName", "s3:CreateBucket", "arn:aws:s3:::%s"},
	"AWS::SNS::Topic":                  {"TopicName", "sns:CreateTopic", "arn:aws:sns:*:*:%s"},
	"AWS::SQS::Queue":                  {"QueueName", "sqs:CreateQueue", "arn:aws:sqs:*:*:%s"},
	"AWS::SSM::Document":               {"Name", "ssm:CreateDocument", "arn:aws:ssm:*:*:document/%s"},
	"AWS::SSM::Parameter":              {"Name", "ssm:PutParameter", "arn:aws:ssm:*:*:parameter%s"},
	"AWS::Scheduler::Schedule":         {"Name", "scheduler:CreateSchedule", "arn:aws:scheduler:*:*:schedule/default/%s"},
	"AWS::SecretsManager::Secret":      {"Name", "secretsmanager:CreateSecret", "arn:aws:secretsmanager:*:*:secret:%s"},
	"AWS::StepFunctions::StateMachine": {"StateMachineName", "states:CreateStateMachine", "arn:aws:states:*:*:stateMachine:%s"},
}

// foreign are what an account may have besides, which an action must not reach.
var foreign = map[string]string{
	"logs:DeleteLogGroup":                "arn:aws:logs:*:*:log-group:/aws/cloudtrail/audit",
	"logs:DeleteRetentionPolicy":         "arn:aws:logs:*:*:log-group:aws-waf-logs-shop",
	"logs:DisassociateKmsKey":            "arn:aws:logs:*:*:log-group:/aws/lambda/shop",
	"iam:DeleteRole":                     "arn:aws:iam::*:role/admin",
	"iam:DeletePolicy":                   "arn:aws:iam::*:policy/shop",
	"lambda:DeleteFunction":              "arn:aws:lambda:*:*:function:shop",
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

// boundTo: what can only be told by a condition has one, and nothing foreign is in reach.
func boundTo(t *testing.T, given map[string][]grant) {
	t.Helper()
	for a, bound := range map[string][2]string{
		"iam:PassRole": {"StringEquals", "iam:PassedToService"}, "lambda:CreateEventSourceMapping": {"ArnLike", "lambda:FunctionArn"},
		"lambda:UpdateEventSourceMapping": {"ArnLike", "lambda:FunctionArn"}, "lambda:DeleteEventSourceMapping": {"ArnLike", "lambda:FunctionArn"},
	} {
		if len(given[a]) == 0 || slices.ContainsFunc(given[a], func(g grant) bool { return len(g.Condition[bound[0]][bound[1]]) == 0 }) {
			t.Errorf("%s is not bound by %s", a, bound[1])
		}
	}
	for a, arn := range foreign {
		if len(given[a]) == 0 || covers(given[a], arn) {
			t.Errorf("CloudFormation may %s on %s, which is not ours, or on nothing", a, arn)
		}
	}
}

func TestBootstrapGivesWhatTemplatesNeedAndNoMore(t *testing.T) {
	all := bootstrap(t)
	given, services := make(map[string][]grant), make(map[string]bool)
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
			if strings.HasPrefix(a, "iam:") {
				for _, r := range g.Resource {
					if r == "*" {
						t.Errorf("statement %s allows %s on everything", g.Sid, a)
					}
				}
			}
		}
	}
	boundTo(t, given)
	files, err := filepath.Glob(path.Join(repository, "infra/stack/testdata/*/*.json"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d golden templates: %v", len(files), err)
	}
	needs := make(map[string]bool)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var template struct {
			Resources map[string]struct {
				Type       string
				Properties map[string]any
			}
		}
		if err := json.Unmarshal(text, &template); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for id, r := range template.Resources {
			if needed[r.Type] == "" {
				t.Errorf("%s has %s, of type %s: say in this test what it needs", f, id, r.Type)
			}
			for a := range strings.FieldsSeq(needed[r.Type]) {
				service, _, _ := strings.Cut(a, ":")
				needs[service] = true
				if len(given[a]) == 0 {
					t.Errorf("%s has %s, of type %s, and CloudFormation may not %s", f, id, r.Type, a)
				}
			}
			named := fixed[r.Type]
			if name, ok := r.Properties[named.property].(string); ok && !covers(given[named.action], strings.Replace(named.arn, "%s", name, 1)) {
				t.Errorf("%s has the %s %s, which is not among what CloudFormation may %s", f, r.Type, name, named.action)
			}
		}
	}
	for service := range services {
		if !needs[service] {
			t.Errorf("the policies allow actions of %s, of which the templates have nothing", service)
		}
	}
}

// covers: a resource of one of the statements matches the ARN.
func covers(all []grant, arn string) bool {
	for _, g := range all {
		for _, r := range g.Resource {
			if regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(r), `\*`, ".*") + "$").MatchString(arn) {
				return true
			}
		}
	}
	return false
}
