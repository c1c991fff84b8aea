package stack

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// identityProvider gives the workflows of GitHub their identities.
	identityProvider = "token.actions.githubusercontent.com"
	// audience is whom a token must be for.
	audience = "sts.amazonaws.com"
	// qualifier is in the names of what `cdk bootstrap` makes.
	qualifier = "hnb659fds"
	// deployHours is how long a job may hold its role, in seconds: the least a role has.
	sessionSeconds = 3600
)

// Pipeline is what workflows of a repository may do: one role sees what a deployment would
// change, one deploys. There is no key of an account anywhere: a job shows a token that
// GitHub has signed, which says of which repository, branch or environment it is.
type Pipeline struct {
	Stack        awscdk.Stack
	Diff, Deploy awsiam.Role
}

func newPipeline(app awscdk.App, c *config.Config) *Pipeline {
	s := part(app, c, c.Region, "Pipeline", "OriginChain: what deploys from a repository")
	p, from := &Pipeline{Stack: s}, c.Pipeline
	provider := arn(&config.Config{Account: c.Account}, "iam", "oidc-provider/"+identityProvider)
	if !from.ProviderExists {
		made := awsiam.NewCfnOIDCProvider(s, jsii.String("GitHub"), &awsiam.CfnOIDCProviderProps{Url: jsii.String("https://" + identityProvider), ClientIdList: list(audience)})
		provider = *made.AttrArn()
	}
	repository := "repo:" + from.Repository
	branch := repository + ":ref:refs/heads/" + from.Branch
	deploys := branch
	if from.Environment != "" {
		deploys = repository + ":environment:" + from.Environment
	}
	role := func(id, name, says string, subjects ...string) awsiam.Role {
		return awsiam.NewRole(s, jsii.String(id), &awsiam.RoleProps{RoleName: jsii.String(name + "-" + c.Region), Description: jsii.String(says), MaxSessionDuration: seconds(sessionSeconds),
			AssumedBy: awsiam.NewWebIdentityPrincipal(jsii.String(provider), &map[string]any{"StringEquals": map[string]any{
				identityProvider + ":aud": audience, identityProvider + ":sub": subjects}})})
	}
	p.Diff = role("DiffRole", "oc-pipeline-diff", "Sees what a deployment of OriginChain would change, and changes nothing", branch, repository+":pull_request")
	p.Deploy = role("DeployRole", "oc-pipeline-deploy", "Deploys OriginChain", deploys)
	allow(p.Diff, "Look", bootstrapped(c, "lookup"), nil, "sts:AssumeRole")
	allow(p.Deploy, "Deploy", bootstrapped(c, "deploy", "file-publishing", "lookup"), nil, "sts:AssumeRole")
	return p
}

// bootstrapped are roles that `cdk bootstrap` has made, in each region that has a stack.
func bootstrapped(c *config.Config, kinds ...string) (out []string) {
	regions := []string{c.Region}
	for i := range c.Tenants {
		if r := c.Tenants[i].ArchiveRegion; !slices.Contains(regions, r) {
			regions = append(regions, r)
		}
	}
	for _, region := range regions {
		for _, kind := range kinds {
			out = append(out, roleARN(c, "cdk-"+qualifier+"-"+kind+"-role-"+c.Account+"-"+region))
		}
	}
	return out
}
