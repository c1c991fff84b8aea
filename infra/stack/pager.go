package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

// pager is a topic whose subscribers are woken.
type pager struct {
	stack awscdk.Stack
	Key   awskms.Key
	Topic awssns.CfnTopic
}

// pageTopic is that of a tenant. Its name is fixed, as the state machines of failovers and
// verifications publish there too.
func pageTopic(t *config.Tenant) string { return "originchain-" + t.Name + "-page" }

func pageARN(c *config.Config, t *config.Tenant) string { return arn(c, "sns", pageTopic(t)) }

// allowPage lets a role wake somebody. The key is named by its alias: stacks that come
// before the topic's have no ARN of it.
func allowPage(r awsiam.Role, c *config.Config, t *config.Tenant) {
	allow(r, "Page", []string{pageARN(c, t)}, nil, "sns:Publish")
	allow(r, "PageKey", []string{arn(c, "kms", "key/*")}, map[string]any{
		"ForAnyValue:StringEquals": map[string]any{"kms:ResourceAliases": "alias/" + pageTopic(t)},
		"StringEquals":             map[string]any{"kms:ViaService": "sns." + c.Region + ".amazonaws.com"}}, "kms:Decrypt", "kms:GenerateDataKey")
	excuseWildcard(r, arn(c, "kms", "key/*"), "The condition names the one key by its alias", "PageKey")
}

// newPager makes a topic where the alarms of the account whose names begin so may publish.
// Others need a permission of their own.
func newPager(s awscdk.Stack, c *config.Config, topic, says, alarms string) *pager {
	p := &pager{stack: s, Key: newKey(s, "PageKey", topic, "Encrypts what wakes the operators of "+says)}
	mine := map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnLike": map[string]any{"aws:SourceArn": arn(c, "cloudwatch", "alarm:"+alarms+"*")}}
	cloudwatch := &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil)}
	p.Key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("Alarms"), Principals: cloudwatch,
		Actions: list("kms:Decrypt", "kms:GenerateDataKey"), Resources: list("*"), Conditions: &mine}), nil)
	p.Topic = awssns.NewCfnTopic(s, jsii.String("Page"), &awssns.CfnTopicProps{TopicName: jsii.String(topic), DisplayName: jsii.String(says), KmsMasterKeyId: p.Key.KeyArn()})
	to := list(arn(c, "sns", topic))
	awssns.NewCfnTopicPolicy(s, jsii.String("PagePolicy"), &awssns.CfnTopicPolicyProps{Topics: &[]*string{p.Topic.Ref()},
		PolicyDocument: awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &[]awsiam.PolicyStatement{
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("OnlyTLS"), Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
				Actions: list("sns:Publish"), Resources: to, Conditions: &map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}}),
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("Alarms"), Principals: cloudwatch, Actions: list("sns:Publish"), Resources: to, Conditions: &mine}),
		}})})
	return p
}
