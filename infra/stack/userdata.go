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

// write is what a machine is given, boot what it does when it starts, secrets how it gets
// the secrets of its node, logs how its journal reaches the group of logs.
var (
	//go:embed machine/write.sh
	write string
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

// userData is the script of a machine: it writes what is its node's and how it boots,
// first of all what sends its log. EC2 takes 16 KiB of it.
func (in *Instance) userData(d *Deployment, t *config.Tenant, a *Archive, i int, binaries awss3assets.Asset) awsec2.UserData {
	n := in.Node[i]
	var env strings.Builder
	for _, v := range [][2]string{
		{"REGION", d.Config.Region}, {"BINARIES", "s3://" + *binaries.S3BucketName() + "/" + *binaries.S3ObjectKey()},
		{"STATE_VOLUME", *n.State.VolumeId()}, {"LOG_VOLUME", *n.Log.VolumeId()}, {"INTERFACE", *n.Interface.AttrId()}, {"ADDRESS", n.Address},
		{"SERVER_USER", serverUser}, {"SERVER_UID", strconv.Itoa(serverUID)}, {"PROGRAMS", programs}, {"DATA_DIR", dataDir}, {"LOG_DIR", logDir}, {"SECRETS_DIR", secretsDir},
		{"ADMIN_SECRET", adminSecret(t)}, {"CERTIFICATES_SECRET", certificateSecret(t, n.ID)},
		{"LOG_GROUP", logGroup(t)}, {"LOGS_STATE", logsDir},
	} {
		fmt.Fprintf(&env, "%s='%s'\n", v[0], v[1])
	}
	const units = "/etc/systemd/system/"
	var text strings.Builder
	fmt.Fprintf(&text, "PROGRAMS='%s'\nmkdir -p \"$PROGRAMS\" '%s'\n", programs, settingsDir)
	for _, f := range [][2]string{
		{settingsDir + "/machine.env", env.String()},
		{programs + "/oc-logs", bare(logs)}, {units + "oc-logs.service", oneshot("logs", "TimeoutStartSec=10min\n")}, {units + "oc-logs.timer", timer("logs", "30s")},
		{programs + "/oc-boot", bare(boot)}, {units + "oc-boot.service", oneshot("boot", bootSettings)},
		{units + serverUnit, in.serverUnit(d, t, a, i)}, {units + "oc-node.service", nodeUnit(d.Config, t, n)},
		// The certificates come anew again and again, so that renewed ones need no restart.
		{programs + "/oc-secrets", bare(secrets)}, {units + "oc-secrets.service", oneshot("secrets", "TimeoutStartSec=60\n")}, {units + "oc-secrets.timer", timer("secrets", "5min")},
	} {
		fmt.Fprintf(&text, "cat >'%s' <<'END_OF_FILE'\n%sEND_OF_FILE\n", f[0], f[1])
	}
	head, body, _ := strings.Cut(write, "# BEGIN\n")
	return awsec2.UserData_Custom(jsii.String(head + text.String() + body))
}

// bootSettings have a boot done again until it ends well, and at each start of the machine.
const bootSettings = `RemainAfterExit=yes
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
`

// bare is a script without the lines that are comments, for which there is no room.
func bare(script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		if c := strings.TrimSpace(line); c != "" && (!strings.HasPrefix(c, "#") || strings.HasPrefix(c, "#!")) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// serverUnit is the unit of the node's server. The server never starts without both
// volumes: what it would write instead would be on a disk that goes with the machine.
// Without its secrets it ends at once, and is started again until they are there.
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
		Dependencies: []string{"RequiresMountsFor=" + dataDir + " " + logDir, "Wants=network-online.target", "StartLimitIntervalSec=0"},
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

// oneshot is the unit of a script, which is told what the machine is.
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

// timer runs such a unit at once and again and again, from when it ran last.
func timer(what, every string) string {
	return `[Unit]
Description=OriginChain ` + what + `, again

[Timer]
OnActiveSec=0
OnUnitActiveSec=` + every + `
AccuracySec=1s

[Install]
WantedBy=timers.target
`
}
