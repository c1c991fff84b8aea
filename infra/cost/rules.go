package cost

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"originchain/shared/alarms"
)

const (
	// gp3 volumes have so much in their price.
	freeIOPS, freeMiBps = 3000, 125
	// detailedMetrics is how many metrics detailed monitoring of a machine has.
	detailedMetrics = 7
	// fastSeconds is from what period on an alarm is a standard one.
	fastSeconds = 60
	// quietStates is how many states an execution of the failover goes through that finds the
	// writer well, verifyStates one of the verification that the function ends. Each that is
	// entered is charged, also the first and the last.
	quietStates, verifyStates = 6, 3
	// observeSeconds is how often the agent of a node sends what it has seen, by one request.
	observeSeconds = 10
	// callSeconds is how long a call of a function is assumed to take.
	callSeconds = 0.5
	// verifySeconds is how long a verification is assumed to take: as long as a function may.
	verifySeconds = 900
	// pollsPerMonth is how often Lambda asks a queue that is empty: five pollers, each for
	// 20 seconds at a time.
	pollsPerMonth = 5 * Hours * 3600 / 20
)

// rules are the types that cost by being there.
func rules() map[string]func(*counter, json.RawMessage) error {
	one := func(part, key string, n float64) func(*counter, json.RawMessage) error {
		return func(c *counter, _ json.RawMessage) error {
			c.add(part, key, n)
			return nil
		}
	}
	return map[string]func(*counter, json.RawMessage) error{
		"AWS::AutoScaling::AutoScalingGroup": (*counter).group,
		"AWS::EC2::Volume":                   (*counter).volume,
		"AWS::EC2::VPCEndpoint":              (*counter).endpoint,
		"AWS::KMS::Key":                      one(Keys, "kms.key", 1),
		"AWS::SecretsManager::Secret":        one(Keys, "secrets.secret", 1),
		"AWS::CloudWatch::Alarm":             (*counter).alarm,
		"AWS::CloudWatch::Dashboard":         (*counter).dashboard,
		"AWS::Route53::HealthCheck":          (*counter).health,
		"AWS::Scheduler::Schedule":           (*counter).schedule,
		"AWS::Lambda::EventSourceMapping":    one(Schedules, "sqs.request", pollsPerMonth),
	}
}

// group is one of machines that are always there.
func (c *counter) group(text json.RawMessage) error {
	var p struct {
		DesiredCapacity string
		LaunchTemplate  struct {
			LaunchTemplateID struct{ Ref string } `json:"LaunchTemplateId"`
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	n, err := strconv.ParseFloat(p.DesiredCapacity, 64)
	if err != nil {
		return fmt.Errorf("how many machines it has: %w", err)
	}
	template, err := c.launch(p.LaunchTemplate.LaunchTemplateID.Ref)
	if err != nil {
		return err
	}
	d := template.LaunchTemplateData
	key := "ec2." + d.InstanceType
	if d.Placement.Tenancy == "dedicated" {
		key += ".dedicated"
	}
	c.add(Machines, key, n*Hours)
	if d.Monitoring.Enabled {
		c.add(Alarms, "cloudwatch.metric", n*detailedMetrics)
	}
	if err := c.node(&template); err != nil {
		return err
	}
	c.add(Alarms, "cloudwatch.request", n*Hours*3600/observeSeconds)
	for _, b := range d.BlockDeviceMappings {
		if b.EBS.VolumeType != "gp3" {
			return fmt.Errorf("a machine boots from a volume of type %q", b.EBS.VolumeType)
		}
		c.add(Volumes, "ebs.gp3.gib", n*b.EBS.VolumeSize)
	}
	return nil
}

// node counts what the agent of a node puts: each metric of the alarms' table twice, with the
// instance alone and with the node. What a program does not export yet is counted too.
func (c *counter) node(template *launchTemplate) error {
	tags := make(map[string]string)
	for _, s := range template.LaunchTemplateData.TagSpecifications {
		for _, t := range s.Tags {
			tags[t.Key] = t.Value
		}
	}
	instance, node := tags["originchain:instance"], tags["Name"]
	if instance == "" || node == "" {
		return fmt.Errorf("a machine without the tags of its instance and its name, of which nobody knows the metrics: %v", tags)
	}
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		if w.Metric == alarms.LastVerifiedAge { // which a function puts, and an alarm reads
			continue
		}
		c.metric(alarms.Namespace(instance), w.Metric, "Instance", instance)
		c.metric(alarms.Namespace(instance), w.Metric, "Instance", instance, "Node", node)
	}
	return nil
}

// metric counts one that AWS does not give out, once for each combination of dimensions.
func (c *counter) metric(namespace, name string, dimensions ...string) {
	key := fmt.Sprintf("%q", append([]string{namespace, name}, dimensions...))
	if !strings.HasPrefix(namespace, "AWS/") && !c.metrics[key] {
		c.metrics[key] = true
		c.add(Alarms, "cloudwatch.metric", 1)
	}
}

type launchTemplate struct {
	LaunchTemplateData struct {
		TagSpecifications []struct {
			Tags []struct{ Key, Value string }
		}
		InstanceType        string
		Monitoring          struct{ Enabled bool }
		Placement           struct{ Tenancy string }
		BlockDeviceMappings []struct {
			EBS struct {
				VolumeType string
				VolumeSize float64
			} `json:"Ebs"`
		}
	}
}

// launch finds a launch template, which is in the stack of its group.
func (c *counter) launch(id string) (t launchTemplate, err error) {
	r, ok := c.stacks[c.stack].Resources[id]
	if !ok || r.Type != "AWS::EC2::LaunchTemplate" {
		return t, fmt.Errorf("there is no launch template %q in its stack", id)
	}
	if err = json.Unmarshal(r.Properties, &t); err == nil && t.LaunchTemplateData.InstanceType == "" {
		err = fmt.Errorf("launch template %s has no type of machine", id)
	}
	return t, err
}

func (c *counter) volume(text json.RawMessage) error {
	var p struct {
		VolumeType             string
		Size, Iops, Throughput float64
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.VolumeType != "gp3" || p.Size <= 0 {
		return fmt.Errorf("a volume of type %q, %v GiB", p.VolumeType, p.Size)
	}
	c.add(Volumes, "ebs.gp3.gib", p.Size)
	if more := p.Iops - freeIOPS; more > 0 {
		c.add(Volumes, "ebs.gp3.iops", more)
	}
	if more := p.Throughput - freeMiBps; more > 0 {
		c.add(Volumes, "ebs.gp3.mibps", more)
	}
	return nil
}

func (c *counter) endpoint(text json.RawMessage) error {
	var p struct {
		VpcEndpointType string
		SubnetIDs       []json.RawMessage `json:"SubnetIds"`
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	switch {
	case p.VpcEndpointType == "Interface" && len(p.SubnetIDs) > 0:
		c.add(Endpoints, "vpc.endpoint", float64(len(p.SubnetIDs))*Hours)
	case p.VpcEndpointType != "Gateway": // which costs nothing
		return fmt.Errorf("an endpoint of type %q in %d subnets", p.VpcEndpointType, len(p.SubnetIDs))
	}
	return nil
}

// alarm is charged by the metric, and what it reads is, unless AWS gives it out.
func (c *counter) alarm(text json.RawMessage) error {
	var p struct {
		Namespace, MetricName string
		Dimensions            []struct {
			Name  string
			Value any
		}
		Period  int
		Metrics []json.RawMessage
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.MetricName == "" || p.Namespace == "" || p.Period <= 0 || len(p.Metrics) > 0 {
		return fmt.Errorf("an alarm that is of more than one metric, or of none")
	}
	key := "cloudwatch.alarm"
	if p.Period < fastSeconds {
		key += ".fast"
	}
	c.add(Alarms, key, 1)
	var dimensions []string
	for _, d := range p.Dimensions {
		dimensions = append(dimensions, d.Name, fmt.Sprint(d.Value))
	}
	c.metric(p.Namespace, p.MetricName, dimensions...)
	return nil
}

// dashboard is charged for, and so is what it shows: somebody puts it.
func (c *counter) dashboard(text json.RawMessage) error {
	var p struct{ DashboardBody string }
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	var body struct {
		Widgets []struct {
			Properties struct{ Metrics [][]any }
		}
	}
	if err := json.Unmarshal([]byte(p.DashboardBody), &body); err != nil {
		return fmt.Errorf("what the dashboard shows: %w", err)
	}
	c.add(Alarms, "cloudwatch.dashboard", 1)
	for _, w := range body.Widgets {
		for _, m := range w.Properties.Metrics {
			var words []string
			for _, part := range m { // the last one may say how it is drawn
				if word, ok := part.(string); ok {
					words = append(words, word)
				}
			}
			if len(words) < 2 || len(words)%2 != 0 {
				return fmt.Errorf("a dashboard shows %v, which is no metric in full", m)
			}
			c.metric(words[0], words[1], words[2:]...)
		}
	}
	return nil
}

func (c *counter) health(text json.RawMessage) error {
	var p struct {
		HealthCheckConfig struct{ Type string }
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.HealthCheckConfig.Type != "CLOUDWATCH_METRIC" {
		return fmt.Errorf("a health check of type %q, which costs more than one of an alarm", p.HealthCheckConfig.Type)
	}
	c.add(Alarms, "route53.health", 1)
	return nil
}

// schedule is charged for, and what it starts is.
func (c *counter) schedule(text json.RawMessage) error {
	var p struct {
		ScheduleExpression string
		Target             struct {
			ARN string `json:"Arn"`
		}
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	n, err := perMonth(p.ScheduleExpression)
	if err != nil {
		return err
	}
	c.add(Schedules, "scheduler.invocation", n)
	service, name := target(p.Target.ARN)
	seconds := float64(callSeconds)
	instance, failover := strings.CutSuffix(name, "-failover")
	verified, verify := strings.CutSuffix(name, "-verify")
	switch {
	case service == "states" && failover:
		c.add(Schedules, "states.transition", n*quietStates)
		name = instance + "-silence" // which knows whether the writer is silent
	case service == "states" && verify:
		c.add(Schedules, "states.transition", n*verifyStates)
		name, seconds = verified+"-pitrverify", verifySeconds
	case service == "lambda":
	default:
		return fmt.Errorf("a schedule starts %q, of which nobody has said what it costs", p.Target.ARN)
	}
	mib, err := c.memory(name)
	if err != nil {
		return err
	}
	c.add(Schedules, "lambda.request", n)
	c.add(Schedules, "lambda.arm64", n*seconds*mib/1024)
	return nil
}

// target is the service and the name of what an ARN is of.
func target(arn string) (service, name string) {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 {
		return "", ""
	}
	return parts[2], parts[6]
}

// memory is that of a function, in MiB.
func (c *counter) memory(name string) (float64, error) {
	for _, t := range c.stacks {
		for _, r := range t.Resources {
			var p struct {
				FunctionName  string
				MemorySize    float64
				Architectures []string
			}
			if r.Type != "AWS::Lambda::Function" || json.Unmarshal(r.Properties, &p) != nil || p.FunctionName != name {
				continue
			}
			if len(p.Architectures) != 1 || p.Architectures[0] != "arm64" {
				return 0, fmt.Errorf("function %s is for %q", name, p.Architectures)
			}
			return p.MemorySize, nil
		}
	}
	return 0, fmt.Errorf("there is no function %q", name)
}

var rate = regexp.MustCompile(`^rate\(([1-9][0-9]*) (minute|hour|day)s?\)$`)

// perMonth is how often a schedule comes.
func perMonth(expression string) (float64, error) {
	if m := rate.FindStringSubmatch(expression); m != nil {
		n, err := strconv.ParseFloat(m[1], 64)
		return Hours * map[string]float64{"minute": 60, "hour": 1, "day": 1.0 / 24}[m[2]] / n, err
	}
	return perMonthCron(expression)
}

var cron = regexp.MustCompile(`^cron\([0-9]+ [0-9]+ (\S+) \* (\S+) \*\)$`)

// perMonthCron knows schedules that come once a day at most.
func perMonthCron(expression string) (float64, error) {
	m := cron.FindStringSubmatch(expression)
	const days = Hours / 24.0
	switch {
	case m == nil:
	case (m[1] == "*" || m[1] == "?") && (m[2] == "?" || m[2] == "*"):
		return days, nil
	case m[1] == "?" && !strings.ContainsAny(m[2], "-,/#L*"):
		return days / 7, nil
	}
	return 0, fmt.Errorf("nobody here knows how often %q comes", expression)
}
