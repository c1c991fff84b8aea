package stack

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/shared/serverunit"
)

// boot is what a machine does when it starts for the first time, secrets how it gets the
// secrets of its node, logs how its journal reaches the group of logs.
var (
	//go:embed machine/boot.sh
	boot string
	//go:embed machine/oc-secrets.sh
	secrets string
	//go:embed machine/oc-logs.sh
	logs string
)

const (
	// account is the user that the server runs as, by a number that the volumes of a node
	// keep from one machine to the next.
	serverUser, serverUID = "originchain", 7400
	programs              = "/opt/originchain/bin"
	dataDir               = "/var/lib/originchain"
	// logDir is the log's directory in a data directory: shared/datadir says so.
	logDir = dataDir + "/log"
	// secretsDir is in memory: no secret is on a disk.
	secretsDir  = "/run/originchain"
	settingsDir = "/etc/originchain"
	// logsDir is how far the journal was sent.
	logsDir    = "/var/lib/oc-logs"
	serverUnit = "oc-http.service"
)

// userData is the script of a machine: what is its node's, the files it needs, and boot.
// EC2 takes 16 KiB of it.
func (in *Instance) userData(d *Deployment, t *config.Tenant, a *Archive, i int, binaries awss3assets.Asset) awsec2.UserData {
	n := in.Node[i]
	values := [][2]string{
		{"REGION", d.Config.Region}, {"BINARIES", "s3://" + *binaries.S3BucketName() + "/" + *binaries.S3ObjectKey()},
		{"STATE_VOLUME", *n.State.VolumeId()}, {"LOG_VOLUME", *n.Log.VolumeId()}, {"INTERFACE", *n.Interface.AttrId()}, {"ADDRESS", n.Address},
		{"SERVER_USER", serverUser}, {"SERVER_UID", strconv.Itoa(serverUID)}, {"PROGRAMS", programs}, {"DATA_DIR", dataDir}, {"LOG_DIR", logDir}, {"SECRETS_DIR", secretsDir}, {"SETTINGS", settingsDir},
		{"ADMIN_SECRET", adminSecret(t)}, {"CERTIFICATES_SECRET", certificateSecret(t, n.ID)},
		{"LOG_GROUP", logGroup(t)}, {"LOGS_STATE", logsDir},
	}
	var text strings.Builder
	for _, v := range values {
		fmt.Fprintf(&text, "%s='%s'\n", v[0], v[1])
	}
	for _, f := range [][2]string{
		{serverUnit, in.serverUnit(d, t, a, i)}, {"oc-node.service", nodeUnit(d.Config, t, n)},
		// The certificates come anew twice a day, so that renewed ones need no restart.
		{"oc-secrets.service", oneshot("secrets", "Restart=on-failure\nRestartSec=10\n")}, {"oc-secrets.timer", timer("secrets", "12h", "30min")},
		{"oc-logs.service", oneshot("logs", "TimeoutStartSec=10min\n")}, {"oc-logs.timer", timer("logs", "30s", "10s")},
	} {
		fmt.Fprintf(&text, "cat >'/etc/systemd/system/%s' <<'END_OF_UNIT'\n%sEND_OF_UNIT\n", f[0], f[1])
	}
	text.WriteString("mkdir -p \"$PROGRAMS\"\n")
	for _, f := range [][2]string{{"oc-secrets", secrets}, {"oc-logs", logs}} {
		fmt.Fprintf(&text, "cat >\"$PROGRAMS/%[1]s\" <<'END_OF_SCRIPT'\n%[2]sEND_OF_SCRIPT\nchmod 0755 \"$PROGRAMS/%[1]s\"\n", f[0], f[1])
	}
	head, body, _ := strings.Cut(boot, "# BEGIN\n")
	return awsec2.UserData_Custom(jsii.String(head + text.String() + body))
}

// serverUnit is the unit of the node's server. The server never starts without both
// volumes: what it would write instead would be on a disk that goes with the machine.
func (in *Instance) serverUnit(d *Deployment, t *config.Tenant, a *Archive, i int) string {
	n, leader := in.Node[i], in.Node[0]
	// What is known at deployment alone is put in behind the quoting: no address has a
	// character that would need it.
	const address, leaderAddress = "ADDRESS-OF-NODE", "ADDRESS-OF-LEADER"
	flags := []string{"--mode", "writer"}
	if i > 0 {
		flags = []string{"--mode", "follower", "--leader-addr", leaderAddress + ":" + strconv.Itoa(replicationPort)}
	}
	flags = append(flags, "--instance-id", t.InstanceID, "--node-id", n.ID, "--region", d.Config.Region, "--data-dir", dataDir,
		"--listen", "0.0.0.0:"+strconv.Itoa(httpPort), "--advertise", "https://"+n.Name+":"+strconv.Itoa(httpPort),
		"--tls-cert", secretsDir+"/server.crt", "--tls-key", secretsDir+"/server.key",
		"--replication-listen", "0.0.0.0:"+strconv.Itoa(replicationPort), "--replication-advertise", address+":"+strconv.Itoa(replicationPort),
		"--replication-tls-dir", secretsDir, "--control", leaseURL(d.Config, t.Name), "--sync-replicas", strconv.Itoa(t.SyncReplicas()))
	if t.Sync == config.Strict {
		flags = append(flags, "--sync-strict")
	}
	flags = append(flags, "--archive", archiveURL(d.Config, t), "--retention", strconv.Itoa(t.RetentionDays*24)+"h")
	if t.AllowCrossRegion {
		flags = append(flags, "--allow-cross-region")
	}
	if t.TailShip {
		flags = append(flags, "--tail-ship")
	}
	u := serverunit.Unit{Node: n.ID, Instance: t.InstanceID, Directory: dataDir, Binary: programs + "/oc-server",
		Flags:        append(flags, "--admin-token-file", secretsDir+"/admin.token"),
		Dependencies: []string{"RequiresMountsFor=" + dataDir + " " + logDir, "Wants=network-online.target oc-secrets.service", "After=oc-secrets.service", "StartLimitIntervalSec=0"},
		Settings: []string{"Environment=AWS_REGION=" + d.Config.Region, "User=" + serverUser, "Group=" + serverUser, "UMask=0077", "LimitNOFILE=1048576", "LimitCORE=0", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes",
			"PrivateTmp=yes", "PrivateDevices=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes", "RestrictSUIDSGID=yes", "CapabilityBoundingSet=",
			"RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX", "ReadWritePaths=" + dataDir}}
	text, err := u.Text()
	if err != nil {
		panic(fmt.Sprintf("the unit of node %s: %v", n.ID, err)) // all of it was validated
	}
	return strings.NewReplacer(leaderAddress, leader.Address, address, n.Address).Replace(string(text))
}

// nodeUnit is the unit of the agent, which tells the control plane of the node.
func nodeUnit(c *config.Config, t *config.Tenant, n *Node) string {
	return `[Unit]
Description=OriginChain agent of ` + n.ID + `
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Environment=AWS_REGION=` + c.Region + `
Environment=OC_INSTANCE=` + t.Name + `
Environment=OC_REGISTRY=` + registryURL(c, t.Name) + `
ExecStart=` + programs + `/oc-node agent
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
`
}

// oneshot is the unit of a script that a timer runs; boot writes what it is told.
func oneshot(what, more string) string {
	return `[Unit]
Description=OriginChain ` + what + `
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
EnvironmentFile=` + settingsDir + `/machine.env
ExecStart=` + programs + `/oc-` + what + `
` + more
}

// timer runs such a unit again and again, from when it ran last.
func timer(what, every, spread string) string {
	return `[Unit]
Description=OriginChain ` + what + `, again

[Timer]
OnActiveSec=1min
OnUnitActiveSec=` + every + `
RandomizedDelaySec=` + spread + `

[Install]
WantedBy=timers.target
`
}
