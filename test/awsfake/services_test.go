package awsfake_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	sestypes "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"originchain/shared/aws/session"
	"originchain/test/awsfake"
)

// once is a configuration whose clients send nothing twice.
func once(f *awsfake.Fake) aws.Config {
	c := f.Config()
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return c
}

func TestCloudWatch(t *testing.T) {
	f := awsfake.Start(t)
	client := cloudwatch.NewFromConfig(once(f))
	at := time.Now().UTC().Truncate(time.Second)
	put := func(d ...cwtypes.MetricDatum) error {
		_, err := client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("OriginChain"), MetricData: d})
		return err
	}
	well := cwtypes.MetricDatum{
		MetricName: aws.String("Heartbeat"), Value: aws.Float64(1), Unit: cwtypes.StandardUnitCount, Timestamp: &at, StorageResolution: aws.Int32(1),
		Dimensions: []cwtypes.Dimension{{Name: aws.String("Node"), Value: aws.String("orders-a")}},
	}
	// Many: the SDK compresses what is long.
	many := []cwtypes.MetricDatum{well}
	for i := range 200 {
		d := well
		d.MetricName = aws.String(fmt.Sprintf("m%d", i))
		many = append(many, d)
	}
	if err := put(many...); err != nil {
		t.Fatal(err)
	}
	if calls := f.CloudWatch.Calls("PutMetricData"); len(calls) != 1 || !calls[0].Compressed {
		t.Errorf("%d calls; what is long is to be compressed", len(calls))
	}
	want := awsfake.Datum{Namespace: "OriginChain", Name: "Heartbeat", Dimensions: map[string]string{"Node": "orders-a"}, Value: 1, Count: 1, Unit: "Count", At: at}
	if data := f.CloudWatch.Data(); len(data) != 201 {
		t.Errorf("%d data", len(data))
	} else if diff := cmp.Diff(want, data[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for what, spoil := range map[string]func(*cwtypes.MetricDatum){
		"old":     func(d *cwtypes.MetricDatum) { d.Timestamp = aws.Time(at.Add(-15 * 24 * time.Hour)) },
		"to come": func(d *cwtypes.MetricDatum) { d.Timestamp = aws.Time(at.Add(3 * time.Hour)) },
		"NaN":     func(d *cwtypes.MetricDatum) { d.Value = aws.Float64(math.NaN()) },
		"both":    func(d *cwtypes.MetricDatum) { d.Values = []float64{1} },
		"twice":   func(d *cwtypes.MetricDatum) { d.Dimensions = append(d.Dimensions, d.Dimensions[0]) },
	} {
		d := well
		if spoil(&d); put(well, d) == nil {
			t.Errorf("%s: it was taken", what)
		}
	}
	if n := len(f.CloudWatch.Data()); n != 201 {
		t.Errorf("a request that was refused has left something: %d data", n)
	}
	f.CloudWatch.Set("orders-silent", "OK", "well")
	f.CloudWatch.Set("orders-silent", "ALARM", "no heartbeat")
	f.CloudWatch.Set("other", "OK", "")
	f.CloudWatch.Set("orders-lag", "OK", "")
	var got []string
	in := &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: aws.String("orders-"), MaxRecords: aws.Int32(1)}
	for {
		out, err := client.DescribeAlarms(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range out.MetricAlarms {
			got = append(got, *a.AlarmName+" "+string(a.StateValue))
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	if diff := cmp.Diff([]string{"orders-lag OK", "orders-silent ALARM"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.CloudWatch.Next("PutMetricData", awsfake.Fail("InternalServiceFault", "m"), awsfake.Throttle())
	for _, want := range []string{"InternalServiceFault", "ThrottlingException"} {
		if err := put(well); codeOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMail(t *testing.T) {
	f := awsfake.Start(t)
	f.SES.Verify("oc.example")
	client := sesv2.NewFromConfig(once(f))
	send := func(from string, content *sestypes.EmailContent) error {
		_, err := client.SendEmail(t.Context(), &sesv2.SendEmailInput{FromEmailAddress: &from, Content: content, Destination: &sestypes.Destination{ToAddresses: []string{"a@b.example"}}})
		return err
	}
	simple := &sestypes.EmailContent{Simple: &sestypes.Message{
		Subject: &sestypes.Content{Data: aws.String("s")}, Body: &sestypes.Body{Text: &sestypes.Content{Data: aws.String("t"), Charset: aws.String("UTF-8")}},
	}}
	raw := &sestypes.EmailContent{Raw: &sestypes.RawMessage{Data: []byte("Subject: s\r\n\r\nt")}}
	if err := errors.Join(send("OriginChain <alerts@oc.example>", simple), send("alerts@oc.example", raw)); err != nil {
		t.Fatal(err)
	}
	if err := send("alerts@other.example", simple); codeOf(err) != "MessageRejected" {
		t.Errorf("got %v", err)
	}
	f.SES.Next("SendEmail", awsfake.Fail("TooManyRequestsException", "m"))
	if err := send("alerts@oc.example", simple); codeOf(err) != "TooManyRequestsException" {
		t.Errorf("got %v", err)
	}
	sent := f.SES.Sent()
	if len(sent) != 2 || sent[0].Subject+sent[0].Text != "st" || sent[0].To[0] != "a@b.example" || !strings.HasPrefix(string(sent[1].Raw), "Subject: s") {
		t.Errorf("sent %+v", sent)
	}
}

func TestNotices(t *testing.T) {
	f := awsfake.Start(t)
	client := sns.NewFromConfig(once(f))
	topic := f.SNS.Topic("alarms")
	publish := func(topic, message string) error {
		_, err := client.Publish(t.Context(), &sns.PublishInput{TopicArn: &topic, Subject: aws.String("s"), Message: &message})
		return err
	}
	if err := publish(topic, "m & <n>"); err != nil {
		t.Fatal(err)
	}
	if err := publish(topic+"x", "m"); codeOf(err) != "NotFound" {
		t.Errorf("got %v", err)
	}
	if err := publish(topic, ""); codeOf(err) != "InvalidParameter" {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]awsfake.Notice{{topic, "s", "m & <n>"}}, f.SNS.Published()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQueues(t *testing.T) {
	f := awsfake.Start(t)
	client := sqs.NewFromConfig(once(f))
	url, dead := f.SQS.Queue("notices"), f.SQS.Queue("dead")
	f.SQS.DeadLetters(url, dead, 2)
	receive := func() []sqstypes.Message {
		t.Helper()
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &url, MaxNumberOfMessages: 10, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"ApproximateReceiveCount"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Messages
	}
	if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("one")}); err != nil {
		t.Fatal(err)
	}
	f.SQS.Send(url, "two")
	if got := receive(); len(got) != 2 || *got[0].Body != "one" || got[0].Attributes["ApproximateReceiveCount"] != "1" || len(receive()) != 0 {
		t.Fatalf("received %v", got)
	}
	f.SQS.Expire(url)
	f.SQS.Duplicate(url, 1)
	again := receive()
	if len(again) != 2 || again[1].Attributes["ApproximateReceiveCount"] != "2" {
		t.Fatalf("received %v", again)
	}
	remove := func(handle string) error {
		_, err := client.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: &handle})
		return err
	}
	if err := remove(*again[1].ReceiptHandle); err != nil {
		t.Error(err)
	}
	if err := remove("x"); codeOf(err) != "ReceiptHandleIsInvalid" {
		t.Errorf("got %v", err)
	}
	// The first one was received twice, and is visible: the next receipt is its last.
	if got := receive(); len(got) != 0 {
		t.Errorf("received %v", got)
	}
	if diff := cmp.Diff([]string{"one"}, f.SQS.Messages(dead)); diff != "" || len(f.SQS.Messages(url)) != 0 {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	url += "x"
	_, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url})
	var missing *sqstypes.QueueDoesNotExist
	if !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

func TestStates(t *testing.T) {
	f := awsfake.Start(t)
	client := sfn.NewFromConfig(once(f))
	machine := f.States.Machine("orders-failover")
	begin := func(machine, name, input string) (string, error) {
		out, err := client.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &machine, Name: &name, Input: &input})
		if err != nil {
			return "", err
		}
		return *out.ExecutionArn, nil
	}
	first, err := begin(machine, "run-1", `{"a":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := begin(machine, "run-1", `{"a":1}`); err != nil || again != first || len(f.States.Executions()) != 1 {
		t.Errorf("%s, %v", again, err)
	}
	for want, c := range map[string][3]string{
		"ExecutionAlreadyExists": {machine, "run-1", `{"a":2}`}, "StateMachineDoesNotExist": {machine + "x", "run-2", "{}"},
		"InvalidExecutionInput": {machine, "run-2", "{"}, "InvalidName": {machine, "run:2", "{}"}, "InvalidArn": {"orders", "run-2", "{}"},
	} {
		if _, err := begin(c[0], c[1], c[2]); codeOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	done, failed, late := f.States.Task(), f.States.Task(), f.States.Task()
	f.States.Expire(late)
	succeed := func(token, output string) error {
		_, err := client.SendTaskSuccess(context.Background(), &sfn.SendTaskSuccessInput{TaskToken: &token, Output: &output})
		return err
	}
	if err := succeed(done, `{"allow":true}`); err != nil {
		t.Error(err)
	}
	if _, err := client.SendTaskFailure(t.Context(), &sfn.SendTaskFailureInput{TaskToken: &failed, Error: aws.String("Refused"), Cause: aws.String("c")}); err != nil {
		t.Error(err)
	}
	for want, c := range map[string][2]string{"TaskTimedOut": {late, "{}"}, "InvalidToken": {"none", "{}"}, "InvalidOutput": {late, "{"}} {
		if err := succeed(c[0], c[1]); codeOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := succeed(done, "{}"); codeOf(err) != "TaskTimedOut" {
		t.Errorf("a task that has ended: %v", err)
	}
	want := []awsfake.Result{{Token: done, Output: `{"allow":true}`}, {Token: failed, Error: "Refused", Cause: "c"}}
	if diff := cmp.Diff(want, f.States.Results()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEnvironment: a process that knows no more than its environment asks the fake.
func TestEnvironment(t *testing.T) {
	f := awsfake.Start(t)
	for _, kv := range f.Environment() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	c, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(awshttp.NewBuildableClient()), config.WithAPIOptions(session.APIOptions()))
	if err != nil {
		t.Fatal(err)
	}
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	ctx, none := t.Context(), aws.String(strings.Repeat("x", 36))
	_, ssmErr := ssm.NewFromConfig(c).CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: none})
	_, r53Err := route53.NewFromConfig(c).GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String("Z1")})
	_, cwErr := cloudwatch.NewFromConfig(c).DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{})
	_, sesErr := sesv2.NewFromConfig(c).SendEmail(ctx, &sesv2.SendEmailInput{FromEmailAddress: none, Content: &sestypes.EmailContent{Raw: &sestypes.RawMessage{Data: []byte("x")}}})
	_, snsErr := sns.NewFromConfig(c).Publish(ctx, &sns.PublishInput{TopicArn: none, Message: none})
	_, sqsErr := sqs.NewFromConfig(c).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: none})
	_, secErr := secretsmanager.NewFromConfig(c).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: none})
	_, sfnErr := sfn.NewFromConfig(c).StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: none})
	_, stsErr := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	got := []string{codeOf(ssmErr), codeOf(r53Err), codeOf(cwErr), codeOf(sesErr), codeOf(snsErr), codeOf(sqsErr), codeOf(secErr), codeOf(sfnErr), codeOf(stsErr)}
	want := []string{
		"InvalidCommandId", "NoSuchHostedZone", "<nil>", "MessageRejected", "NotFound", "QueueDoesNotExist", "ResourceNotFoundException", "InvalidArn", "<nil>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSecretsAndCaller(t *testing.T) {
	f := awsfake.Start(t)
	client := secretsmanager.NewFromConfig(once(f))
	arn := f.Secrets.Put("orders/admin-token", "one")
	f.Secrets.Put("orders/admin-token", "two")
	for _, id := range []string{arn, "orders/admin-token", strings.TrimSuffix(arn, "-AbCdEf")} {
		if out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &id}); err != nil || *out.SecretString != "two" || *out.ARN != arn {
			t.Errorf("%s: %+v, %v", id, out, err)
		}
	}
	if _, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("other")}); codeOf(err) != "ResourceNotFoundException" {
		t.Errorf("got %v", err)
	}
	who, err := sts.NewFromConfig(once(f)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Account != awsfake.Account {
		t.Errorf("%+v, %v", who, err)
	}
}
