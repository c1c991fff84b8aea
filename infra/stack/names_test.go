package stack_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"originchain/infra/config"
	"originchain/shared/aws/settings"
)

// largest is a certificate of an authority that fills what a configuration may have of it.
func largest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for long := 2000; ; long-- {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 99}, Value: make([]byte, long)}}}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}); len(text) <= config.MaxCABytes {
			return string(text)
		}
	}
}

// TestWhateverItIsCalledItFits: the longest names that a configuration may have are within
// what each service takes; one that is not is found at the deployment, by who has it.
func TestWhateverItIsCalledItFits(t *testing.T) {
	ca, err := json.Marshal(largest(t))
	if err != nil {
		t.Fatal(err)
	}
	name, record := "a"+strings.Repeat("b", 30), strings.Repeat("a23456789.", 22)+"db.example.com"
	c, err := config.Parse("largest", fmt.Appendf(nil, `{"account": "111122223333", "region": "ap-southeast-1", "mail_from": "status@example.com", "tenants": [{"name": %q, "instance_id": "01JDV5K2Q8W3M0ZB7R4N6XHE90",
		"tier": "scale", "followers": 2, "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJABCDEFGHIJ1", "record": %q, "ca": %s}]}`, name, record, ca))
	if err != nil {
		t.Fatal(err)
	}
	everythingFits(t, name, c)
	// An archive abroad has a longer name, where there is room for it.
	for i := range c.Tenants {
		c.Tenants[i].ArchiveRegion, c.Tenants[i].AllowCrossRegion = "ap-northeast-1", true
	}
	everythingFits(t, name, c)
}

// everythingFits holds the names of a deployment to what services take.
func everythingFits(t *testing.T, name string, c *config.Config) {
	t.Helper()
	const most = 4096 // of an environment, and of a parameter
	limits := map[string]map[string]int{
		"AWS::IAM::Role": {"RoleName": 64, "Description": 1000}, "AWS::IAM::ManagedPolicy": {"ManagedPolicyName": 128, "Description": 1000},
		"AWS::Lambda::Function": {"FunctionName": 64, "Description": 256}, "AWS::StepFunctions::StateMachine": {"StateMachineName": 80, "DefinitionString": 1 << 20},
		"AWS::SQS::Queue": {"QueueName": 80}, "AWS::SNS::Topic": {"TopicName": 256, "DisplayName": 100}, "AWS::Events::Rule": {"Name": 64, "Description": 512}, "AWS::Scheduler::Schedule": {"Name": 64, "Description": 512},
		"AWS::CloudWatch::Alarm": {"AlarmName": 255, "AlarmDescription": 1024}, "AWS::SSM::Parameter": {"Value": most, "Description": 1024}, "AWS::SSM::Document": {"Name": 128},
		"AWS::KMS::Alias": {"AliasName": 256}, "AWS::Logs::LogGroup": {"LogGroupName": 512}, "AWS::S3::Bucket": {"BucketName": 63}, "AWS::SecretsManager::Secret": {"Name": 512, "Description": 2048}, "AWS::EC2::SecurityGroup": {"GroupDescription": 255},
		"AWS::AutoScaling::AutoScalingGroup": {"AutoScalingGroupName": 255}, "AWS::Route53::RecordSet": {"Name": 254, "SetIdentifier": 128}, "AWS::DynamoDB::Table": {"TableName": 255},
	}
	for stack, tm := range deployment(t, c).stacks {
		for kind, of := range limits {
			for id, r := range tm.resources(kind) {
				for key, limit := range of {
					if v, ok := at(r, "Properties", key).(string); ok && len(v) > limit {
						t.Errorf("%s of %s: %s has %d bytes, and the service takes %d: %.90s", id, stack, key, len(v), limit, v)
					}
				}
			}
		}
		for id, f := range tm.resources("AWS::Lambda::Function") {
			size := 0
			env, _ := at(f, "Properties", "Environment", "Variables").(map[string]any)
			for k, v := range env {
				size += len(k) + len(tm.resolve(v))
			}
			if size > most {
				t.Errorf("the environment of %s has %d bytes, and Lambda takes %d", id, size, most)
			}
		}
		for _, p := range tm.resources("AWS::SSM::Parameter") {
			if text := at(p, "Properties", "Value").(string); strings.HasPrefix(stack, "OriginChain-"+name) {
				if _, err := settings.Parse([]byte(text)); err != nil {
					t.Error(err)
				}
			}
		}
	}
}
