// Package cost counts what a deployment is charged for by the month, from its
// synthesized templates, and renders it with a region's prices. A type of resource that
// nobody has said the cost of is an error, as is what has no price.
package cost

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Hours is how many a month has.
const Hours = 730

// Parts of a deployment, as rows of the table.
const (
	Machines  = "Machines"
	Volumes   = "Volumes"
	Endpoints = "Interface endpoints"
	Keys      = "Keys and secrets"
	Alarms    = "Alarms, metrics, dashboards, health checks"
	Schedules = "What schedules start"
)

// Parts are all of them, in the order of the table.
func Parts() []string { return []string{Machines, Volumes, Endpoints, Keys, Alarms, Schedules} }

// Quantities are how much of each price, in a month, for each part.
type Quantities map[string]map[string]float64

// Template is a stack as CloudFormation gets it.
type Template struct {
	Resources map[string]Resource
}

// Resource is one of a template.
type Resource struct {
	Type       string
	Properties json.RawMessage
}

// UnknownError names types that nobody has said the cost of.
type UnknownError struct{ Types []string }

// Error is one line.
func (e *UnknownError) Error() string {
	return "nobody has said what these cost: " + strings.Join(e.Types, ", ") + "; say it in infra/cost"
}

// RegionalInstance is whose what no instance has is.
const RegionalInstance = ""

// Count counts the templates of a deployment, by instance. Stacks are named as they are
// without the deployment's prefix: one that begins with an instance's name and a hyphen
// is the instance's, and so is a resource with its tag.
func Count(stacks map[string]Template, instances []string) (map[string]Quantities, error) {
	c := &counter{stacks: stacks, out: map[string]Quantities{RegionalInstance: {}}, metrics: make(map[string]bool)}
	for _, name := range instances {
		c.out[name] = Quantities{}
	}
	unknown := make(map[string]bool)
	rules := rules()
	for _, stack := range slices.Sorted(maps.Keys(stacks)) {
		for _, id := range slices.Sorted(maps.Keys(stacks[stack].Resources)) {
			r := stacks[stack].Resources[id]
			count, known := rules[r.Type]
			switch {
			case !known && !slices.Contains(free(), r.Type):
				unknown[r.Type] = true
			case known:
				c.stack, c.into = stack, c.out[owner(stack, r, instances)]
				if err := count(c, r.Properties); err != nil {
					return nil, fmt.Errorf("%s of stack %s: %w", id, stack, err)
				}
			}
		}
	}
	if len(unknown) > 0 {
		return nil, &UnknownError{slices.Sorted(maps.Keys(unknown))}
	}
	return c.out, nil
}

// owner is the instance that a resource is of.
func owner(stack string, r Resource, instances []string) string {
	var p struct {
		Tags json.RawMessage
	}
	var tags []struct{ Key, Value string }
	// A few types have their tags in another form; their stacks are an instance's own.
	if json.Unmarshal(r.Properties, &p) == nil && json.Unmarshal(p.Tags, &tags) == nil {
		for _, t := range tags {
			if t.Key == "originchain:instance" && slices.Contains(instances, t.Value) {
				return t.Value
			}
		}
	}
	best := RegionalInstance
	for _, name := range instances {
		if strings.HasPrefix(stack, name+"-") && len(name) > len(best) {
			best = name
		}
	}
	return best
}

type counter struct {
	stacks map[string]Template
	out    map[string]Quantities
	// stack has the resource that is counted, into what its owner has.
	stack string
	into  Quantities
	// metrics are those that were counted, as several alarms read one.
	metrics map[string]bool
}

func (c *counter) add(part, key string, n float64) {
	if c.into[part] == nil {
		c.into[part] = make(map[string]float64)
	}
	c.into[part][key] += n
}

// free are types that cost nothing by being there: nothing at all, or by use alone.
func free() []string {
	return []string{
		"AWS::CloudFront::Distribution", "AWS::CloudFront::OriginAccessControl", "AWS::CloudFront::ResponseHeadersPolicy", "AWS::DynamoDB::Table",
		"AWS::EC2::FlowLog", "AWS::EC2::LaunchTemplate", "AWS::EC2::NetworkInterface", "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup",
		"AWS::EC2::SecurityGroupEgress", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::Subnet", "AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::VPC",
		"AWS::Events::Rule", "AWS::IAM::InstanceProfile", "AWS::IAM::ManagedPolicy", "AWS::IAM::OIDCProvider", "AWS::IAM::Policy", "AWS::IAM::Role", "AWS::KMS::Alias",
		"AWS::Lambda::EventInvokeConfig", "AWS::Lambda::Function", "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Logs::ResourcePolicy", "AWS::Route53::RecordSet",
		"AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::SES::ConfigurationSet", "AWS::SNS::Subscription", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy",
		"AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::SSM::Document", "AWS::SSM::Parameter", "AWS::Scheduler::ScheduleGroup", "AWS::StepFunctions::StateMachine",
	}
}
