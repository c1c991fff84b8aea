package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"originchain/infra/config"
	"originchain/shared/unitfile"
	nodeconfig "originchain/writer/config"
)

// launch is the data of the launch template of a node.
func (tm template) launch(t *testing.T, i int) map[string]any {
	t.Helper()
	r := tm.resources("AWS::EC2::LaunchTemplate")["Template"+string(rune('A'+i))]
	data, ok := at(r, "Properties", "LaunchTemplateData").(map[string]any)
	if !ok {
		t.Fatalf("node %d has no launch template", i)
	}
	return data
}

func TestMachines(t *testing.T) {
	tenants(t, func(t *testing.T, _ *world, n *config.Tenant, _, tm template) {
		if got := len(tm.resources("AWS::AutoScaling::AutoScalingGroup")); got != 1+n.Followers {
			t.Errorf("%d machines, want %d", got, 1+n.Followers)
		}
		tenancy := map[bool]string{false: "default", true: "dedicated"}[n.DedicatedTenancy]
		for i := range n.Nodes() {
			d := tm.launch(t, i)
			for _, c := range []struct {
				path []any
				want any
			}{
				{[]any{"MetadataOptions"}, map[string]any{"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1.0, "InstanceMetadataTags": "disabled"}},
				{[]any{"KeyName"}, nil},
				{[]any{"InstanceType"}, n.Machine.Type(n.Architecture)},
				{[]any{"Placement", "Tenancy"}, tenancy},
				{[]any{"Monitoring", "Enabled"}, true},
				{[]any{"NetworkInterfaces"}, nil},
				{[]any{"BlockDeviceMappings", 0, "Ebs", "Encrypted"}, true},
				{[]any{"BlockDeviceMappings", 0, "Ebs", "VolumeType"}, "gp3"},
			} {
				if diff := cmp.Diff(c.want, at(d, c.path...)); diff != "" {
					t.Errorf("node %d: %v (-want +got)\n%s", i, c.path, diff)
				}
			}
			image, _ := at(tm["Parameters"], strings.Trim(tm.resolve(d["ImageId"]), "<>"), "Default").(string)
			if arch := map[config.Architecture]string{config.ARM64: "-arm64", config.AMD64: "-x86_64"}[n.Architecture]; !strings.HasSuffix(image, arch) || !strings.Contains(image, "/al2023-") {
				t.Errorf("node %d starts from %q", i, image)
			}
			group := tm.resources("AWS::AutoScaling::AutoScalingGroup")["Machine"+string(rune('A'+i))]
			for _, key := range []string{"MinSize", "MaxSize", "DesiredCapacity"} {
				if v := at(group, "Properties", key); v != "1" {
					t.Errorf("node %d: %s is %v: two machines would fight for its volumes", i, key, v)
				}
			}
			if group["UpdatePolicy"] != nil {
				t.Errorf("a deployment would restart machines that run: %v", group["UpdatePolicy"])
			}
		}
	})
}

// TestNodesShareNoZone: machine, volumes and interface of a node are in one zone, and no
// two nodes of an instance are.
func TestNodesShareNoZone(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, tm template) {
		subnets := w.stacks["OriginChain-Network"].resources("AWS::EC2::Subnet")
		zoneOf := func(subnet any) string {
			// ExportsOutputRef<id>, with a hash behind it.
			id := strings.TrimPrefix(tm.resolve(subnet), "<Ref")
			for s, r := range subnets {
				if strings.HasPrefix(id, s) {
					return at(r, "Properties", "AvailabilityZone").(string)
				}
			}
			t.Fatalf("no subnet %s", id)
			return ""
		}
		var zones []string
		for i := range n.Nodes() {
			letter := string(rune('A' + i))
			machine := tm.resources("AWS::AutoScaling::AutoScalingGroup")["Machine"+letter]
			all := []string{zoneOf(at(machine, "Properties", "VPCZoneIdentifier", 0)), zoneOf(at(tm.resources("AWS::EC2::NetworkInterface")["Interface"+letter], "Properties", "SubnetId"))}
			for id, v := range tm.resources("AWS::EC2::Volume") {
				if strings.HasPrefix(id, "State"+letter) || strings.HasPrefix(id, "Log"+letter) {
					all = append(all, at(v, "Properties", "AvailabilityZone").(string))
				}
			}
			if len(all) != 4 || len(slices.Compact(slices.Clone(all))) != 1 || all[0] != w.config.Zones[i] {
				t.Errorf("node %d is in %q", i, all)
			}
			zones = append(zones, all[0])
		}
		if slices.Sort(zones); len(slices.Compact(zones)) != 1+n.Followers {
			t.Errorf("nodes in %q", zones)
		}
	})
}

// TestVolumesAreEncryptedAndKept, and an address, which holds nothing, is not.
func TestVolumesAreEncryptedAndKept(t *testing.T) {
	tenants(t, func(t *testing.T, _ *world, n *config.Tenant, _, tm template) {
		volumes := tm.resources("AWS::EC2::Volume")
		if len(volumes) != 2*(1+n.Followers) {
			t.Errorf("%d volumes, want a state and a log for each node", len(volumes))
		}
		for id, v := range volumes {
			want := n.Machine.State
			if strings.HasPrefix(id, "Log") {
				want = n.Machine.Log
			}
			p := v["Properties"].(map[string]any)
			got := config.Volume{GiB: int(p["Size"].(float64)), IOPS: int(p["Iops"].(float64)), MiBps: int(p["Throughput"].(float64))}
			key := tm.resolve(p["KmsKeyId"])
			if got != want || p["Encrypted"] != true || p["VolumeType"] != "gp3" || p["MultiAttachEnabled"] == true || n.KeyARN != "" && key != n.KeyARN || n.KeyARN == "" && !strings.HasPrefix(key, "<Key") {
				t.Errorf("%s: %v", id, p)
			}
			if !stays(v) {
				t.Errorf("%s goes with its stack", id)
			}
		}
		// A kept one would keep its group and its subnet from being deleted.
		for id, v := range tm.resources("AWS::EC2::NetworkInterface") {
			if kept := v["DeletionPolicy"]; kept != nil && kept != "Delete" {
				t.Errorf("%s outlives its stack: %v", id, kept)
			}
		}
	})
}

// TestWhatMachinesMayDo asks the policy of the machines' role.
func TestWhatMachinesMayDo(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, tm template) {
		policy := tm.policyOf(t, "NodeRole")
		arn := func(service, resource string) string {
			return "arn:aws:" + service + ":" + w.config.Region + ":" + w.config.Account + ":" + resource
		}
		table := func(name string) string {
			for _, s := range policy {
				if s.Sid == name {
					return tm.texts(s.Resource)[0]
				}
			}
			return ""
		}
		bucket, region := "arn:aws:s3:::"+w.archive(n), w.config.Region
		keys := func(k string) map[string]string { return map[string]string{"dynamodb:LeadingKeys": k} }
		for name, c := range map[string]struct {
			action, resource string
			context          map[string]string
			want             bool
		}{
			"its lease":                {"dynamodb:UpdateItem", table("Lease"), keys(n.Name), true},
			"another's lease":          {"dynamodb:UpdateItem", table("Lease"), keys("other"), false},
			"all leases":               {"dynamodb:Scan", table("Lease"), nil, false},
			"a lease of no key":        {"dynamodb:UpdateItem", table("Lease"), nil, false},
			"its lease deleted":        {"dynamodb:DeleteItem", table("Lease"), keys(n.Name), false},
			"its registry":             {"dynamodb:PutItem", table("Registry"), keys(n.Name), true},
			"another's registry":       {"dynamodb:Query", table("Registry"), keys("other"), false},
			"the control plane's":      {"dynamodb:PutItem", table("Registry"), keys("control"), false},
			"its archive put":          {"s3:PutObject", bucket + "/log/x", nil, true},
			"its archive read":         {"s3:GetObject", bucket + "/log/x", nil, true},
			"another's archive":        {"s3:GetObject", "arn:aws:s3:::oc-other-" + w.config.Account + "-" + n.ArchiveRegion + "/x", nil, false},
			"its admin token":          {"secretsmanager:GetSecretValue", arn("secretsmanager", "secret:originchain/"+n.Name+"/admin-token-AbCdEf"), nil, true},
			"another's admin token":    {"secretsmanager:GetSecretValue", arn("secretsmanager", "secret:originchain/"+n.Name+"-2/admin-token-AbCdEf"), nil, false},
			"its metrics":              {"cloudwatch:PutMetricData", "*", map[string]string{"cloudwatch:namespace": "OriginChain/" + n.Name}, true},
			"another's metrics":        {"cloudwatch:PutMetricData", "*", map[string]string{"cloudwatch:namespace": "OriginChain/" + n.Name + "-2"}, false},
			"metrics of another name":  {"cloudwatch:PutMetricData", "*", map[string]string{"cloudwatch:namespace": "AWS/EC2"}, false},
			"its documents":            {"ssm:GetDocument", arn("ssm", "document/OriginChain-"+n.Name+"-stop"), nil, true},
			"another's documents":      {"ssm:GetDocument", arn("ssm", "document/OriginChain-"+n.Name+"-eu-stop"), nil, false},
			"parameters":               {"ssm:GetParameter", arn("ssm", "parameter/x"), nil, false},
			"a command sent":           {"ssm:SendCommand", arn("ec2", "instance/i-1"), nil, false},
			"the role that deletes":    {"sts:AssumeRole", "arn:aws:iam::" + w.config.Account + ":role/oc-" + n.Name + "-retention-" + region, nil, true},
			"another role":             {"sts:AssumeRole", "arn:aws:iam::" + w.config.Account + ":role/Admin", nil, false},
			"a volume to its machine":  {"ec2:AttachVolume", arn("ec2", "instance/i-1"), map[string]string{"aws:ResourceTag/originchain:instance": n.Name}, true},
			"a volume to another's":    {"ec2:AttachVolume", arn("ec2", "instance/i-1"), map[string]string{"aws:ResourceTag/originchain:instance": "other"}, false},
			"a volume that is not its": {"ec2:AttachVolume", arn("ec2", "volume/vol-1"), nil, false},
			"a volume detached":        {"ec2:DetachVolume", arn("ec2", "volume/vol-1"), nil, false},
			"a volume deleted":         {"ec2:DeleteVolume", arn("ec2", "volume/vol-1"), nil, false},
		} {
			if got := tm.allowed(t, policy, request{action: c.action, resource: c.resource, context: c.context}); got != c.want {
				t.Errorf("%s: allowed is %v, want %v", name, got, c.want)
			}
		}
		for _, s := range policy {
			for _, a := range s.actions() {
				if strings.Contains(a, "*") || s.NotAction != nil || s.NotResource != nil {
					t.Errorf("a machine may %q", a)
				}
			}
			if slices.Contains(tm.texts(s.Resource), "*") && s.Sid != "Commands" && s.Sid != "Metrics" {
				t.Errorf("%s is about everything", s.Sid)
			}
		}
		for id, r := range tm.resources("AWS::IAM::Role") {
			if at(r, "Properties", "ManagedPolicyArns") != nil {
				t.Errorf("%s has policies of others: %v", id, at(r, "Properties", "ManagedPolicyArns"))
			}
		}
	})
}

// script is the user data of a node, with a name for what only CloudFormation knows.
func (tm template) script(t *testing.T, i int) string {
	t.Helper()
	return tm.resolve(at(tm.launch(t, i)["UserData"], "Fn::Base64"))
}

// unit is a file that a script writes.
func unit(t *testing.T, script, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(script, "cat >'/etc/systemd/system/"+name+"' <<'END_OF_FILE'\n")
	text, _, ended := strings.Cut(rest, "END_OF_FILE\n")
	if !ok || !ended {
		t.Fatalf("%s is not written", name)
	}
	return text
}

// TestServersAreToldWhatWasAskedFor: the flags of the units are flags of oc-server, none
// of them is at fault, and they say what the configuration says.
func TestServersAreToldWhatWasAskedFor(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, tm template) {
		for i, id := range n.Nodes() {
			letter := string(rune('A' + i))
			text := strings.NewReplacer("<Interface"+letter+".PrimaryPrivateIpAddress>", "10.0.0.9", "<InterfaceA.PrimaryPrivateIpAddress>", "10.0.0.1").Replace(unit(t, tm.script(t, i), "oc-http.service"))
			f, err := unitfile.Parse("oc-http.service", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			command, err := f.Command()
			if err != nil {
				t.Fatal(err)
			}
			path, args, err := command.Argv(nil, nil)
			if err != nil || path != "/opt/originchain/bin/oc-server" {
				t.Fatalf("%s %v", path, err)
			}
			set := pflag.NewFlagSet("oc-server", pflag.ContinueOnError)
			options := nodeconfig.Register(set)
			if err := set.Parse(args[1:]); err != nil {
				t.Fatal(err)
			}
			c, faults := options.Resolve(func(string) (string, bool) { return "", false })
			if len(faults) > 0 {
				t.Errorf("%s would not start: %q\n%s", id, faults, text)
			}
			mode, leader := "writer", ""
			if i > 0 {
				mode, leader = "follower", "10.0.0.1:7401"
			}
			for name, v := range map[string][2]any{
				"mode": {c.Mode, mode}, "leader": {c.LeaderAddr, leader}, "instance": {c.InstanceID, n.InstanceID}, "node": {c.NodeID, id}, "region": {c.Region, w.config.Region},
				"sync": {c.SyncReplicas, map[config.Sync]int{config.Async: 0, config.Wait: 1, config.Strict: 1}[n.Sync]}, "strict": {c.SyncStrict, n.Sync == config.Strict},
				"retention": {int(c.Retention.Hours()), 24 * n.RetentionDays}, "tail": {c.TailShip, n.TailShip}, "abroad": {c.AllowCrossRegion, n.ArchiveRegion != w.config.Region},
				"archive": {c.Archive, "s3://" + w.archive(n) + "?region=" + n.ArchiveRegion + "&remover=arn:aws:iam::" + w.config.Account + ":role/oc-" + n.Name + "-retention-" + w.config.Region},
				"lease":   {c.Control, "dynamodb://originchain-leases/" + n.Name + "?region=" + w.config.Region}, "data": {c.DataDir, "/var/lib/originchain"},
				"certificate": {c.TLSCert != "" && c.TLSKey != "" && c.ReplicationTLSDir != "", true},
				"advertised":  {c.Advertise, "https://" + strings.ToLower(letter) + "." + n.Record + ":7400"},
			} {
				if v[0] != v[1] {
					t.Errorf("%s: %s is %v, want %v", id, name, v[0], v[1])
				}
			}
			for key, want := range map[string]string{"RequiresMountsFor": "/var/lib/originchain /var/lib/originchain/log", "StartLimitIntervalSec": "0",
				// To start the server is not to ask for secrets: it must go on without the service for them.
				"Wants": "network-online.target"} {
				if got := f.Value("Unit", key); got != want {
					t.Errorf("%s: %s is %q: the log would be written to the disk that goes with the machine", id, key, got)
				}
			}
			for key, want := range map[string]string{"User": "originchain", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "Restart": "always", "ReadWritePaths": "/var/lib/originchain"} {
				if got := f.Value("Service", key); got != want {
					t.Errorf("%s: %s is %q, want %q", id, key, got, want)
				}
			}
		}
	})
}

// TestBootIsDoneAgain: until it ends well, at each start, with its log sent from before
// anything of it can fail.
func TestBootIsDoneAgain(t *testing.T) {
	tenants(t, func(t *testing.T, _ *world, n *config.Tenant, _, tm template) {
		for i := range n.Nodes() {
			script := tm.script(t, i)
			for name, want := range map[string][]string{
				"oc-boot.service":    {"Type=oneshot", "RemainAfterExit=yes", "Restart=on-failure", "RestartSec=10", "StartLimitIntervalSec=0", "EnvironmentFile=/etc/originchain/machine.env", "WantedBy=multi-user.target"},
				"oc-logs.timer":      {"OnActiveSec=0", "OnUnitActiveSec=30s"},
				"oc-secrets.timer":   {"OnActiveSec=0", "OnUnitActiveSec=5min"},
				"oc-secrets.service": {"TimeoutStartSec=60"},
			} {
				lines := strings.Split(unit(t, script, name), "\n")
				for _, w := range want {
					if !slices.Contains(lines, w) {
						t.Errorf("%s has no %s: %q", name, w, lines)
					}
				}
			}
			if !strings.HasSuffix(script, "END_OF_FILE\nchmod 0755 \"$PROGRAMS\"/oc-*\n# On the disk before anything happens: a start that is cut short finds it.\nsync\n"+
				"systemctl daemon-reload\nsystemctl enable --now --no-block oc-logs.timer oc-boot.service\n") {
				t.Errorf("it does more than write: %s", script[len(script)-400:])
			}
			if strings.Count(script, "cat >") != 11 {
				t.Errorf("%d files", strings.Count(script, "cat >"))
			}
		}
	})
}

// TestScriptsAreSound: each fits what EC2 takes, and shellcheck has nothing to say.
func TestScriptsAreSound(t *testing.T) {
	const most = 16 << 10
	var files []string
	dir := t.TempDir()
	tenants(t, func(t *testing.T, _ *world, n *config.Tenant, _, tm template) {
		for i, id := range n.Nodes() {
			text := tm.script(t, i)
			if len(text)+1024 > most {
				t.Errorf("%s: %d bytes, and EC2 takes %d", id, len(text), most)
			}
			files = append(files, filepath.Join(dir, id+".sh"))
			if err := os.WriteFile(files[len(files)-1], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	// What a unit holds is a script of its own.
	files = append(files, "machine/boot.sh", "machine/oc-secrets.sh", "machine/oc-logs.sh")
	shellcheck(t, files)
}

func shellcheck(t *testing.T, files []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "shellcheck", append([]string{"--shell=bash", "--severity=style"}, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck (on Debian: apt-get install shellcheck): %v\n%s", err, out)
	}
}
