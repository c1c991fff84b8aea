package stack_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"originchain/infra/config"
	"originchain/infra/stack"
)

func TestTry(t *testing.T) {
	c, err := config.Parse("x", []byte(`{"account":"111122223333","region":"eu-central-1","client_cidrs":["10.1.0.0/16"],"tenants":[{"name":"acme","instance_id":"01JDV5K2Q8W3M0ZB7R4N6XHE9T","tier":"pro","zone":"db.example.com","zone_id":"Z0123456789ABCDEFGHIJ"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	app := awscdk.NewApp(stack.AppProps())
	d := stack.Build(app, c, stack.Options{Binaries: "testdata/bin"})
	for _, s := range []awscdk.Stack{d.Network.Stack, d.Control.Stack, d.Tenants[0].Archive.Stack, d.Tenants[0].Instance.Stack} {
		text, _ := json.MarshalIndent(assertions.Template_FromStack(s, nil).ToJSON(), "", " ")
		os.WriteFile("/tmp/try-"+*s.StackName()+".json", text, 0o600)
	}
}
