package s3object

import (
	"cmp"
	"os"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// removerSession is what the account's records of calls show beside the role.
const removerSession = "originchain-retention"

// roleForm is the ARN of a role.
var roleForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,128}$`)

// remover is the client that deletes: that of all else, or one in the role that the
// configuration names. Whoever has the credentials of the process alone, and not that
// role, can so delete nothing, and neither can a bug that deletes by another way.
func remover(loaded aws.Config, client *s3.Client, role string) *s3.Client {
	if role == "" {
		return client
	}
	// The role is taken in the region of the process: that of the bucket may be another,
	// which a network without a way out does not reach.
	asking := sts.NewFromConfig(loaded, func(o *sts.Options) { o.Region = cmp.Or(os.Getenv("AWS_REGION"), o.Region) })
	taken := stscreds.NewAssumeRoleProvider(asking, role, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = removerSession })
	return s3.New(client.Options(), func(o *s3.Options) { o.Credentials = aws.NewCredentialsCache(taken) })
}
