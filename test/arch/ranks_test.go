package arch

// ranks is the architecture: a package imports only packages of lower rank, in
// tests too, where it may also import itself. Every package has a row, and every
// row a package. docs/ARCHITECTURE.md says what each is for.
var ranks = map[string]int{
	"scripts/protogen":         0,
	"shared/aws/session":       0,
	"test/awsfake/model":       0,
	"shared/fault":             0,
	"shared/lsn":               0,
	"shared/notice":            0,
	"shared/progress":          0,
	"shared/replica/replicapb": 0,
	"shared/schedule":          0,
	"shared/simdisk":           0,
	"shared/telemetry":         0,
	"shared/unitfile":          0,

	"shared/aws/ddblease/ddbtest":        1,
	"shared/aws/ddbtable":                1,
	"shared/aws/s3object/s3test/gateway": 1,
	"shared/alarms":                      1,
	"test/awsfake":                       1,
	"shared/certfile":                    1,
	"shared/clock":                       1,
	"shared/durable":                     1,
	"shared/frame":                       1,
	"shared/object":                      1,
	"shared/pacing":                      1,
	"shared/schema":                      1,

	"shared/api":                 2,
	"shared/aws/cwmetrics":       2,
	"shared/aws/ec2machine":      2,
	"shared/aws/s3object/s3test": 2,
	"shared/datadir":             2,
	"shared/incident":            2,
	"shared/mtls":                2,
	"shared/objecttest":          2,
	"shared/table":               2,
	"shared/tenant":              2,
	"shared/wal":                 2,

	"lambdas/notify":      3,
	"lambdas/documents":   4,
	"shared/archive":      3,
	"shared/aws/s3object": 3,
	"shared/devca":        3,
	"shared/httpx":        3,
	"shared/lease":        3,
	"shared/recover":      3,
	"shared/registry":     3,
	"shared/rows":         3,

	"shared/failover":     4,
	"shared/engine":       4,
	"shared/leasetest":    4,
	"shared/registrytest": 4,
	"shared/restore":      4,
	"shared/sql":          4,

	"lambdas/local/control":   5,
	"lambdas/local/gate":      5,
	"lambdas/local/layout":    5,
	"lambdas/local/roster":    5,
	"scripts/call":            5,
	"scripts/child":           5,
	"scripts/demo/data":       5,
	"shared/aws/ddblease":     5,
	"shared/aws/ddbregistry":  5,
	"shared/aws/route53dns":   5,
	"shared/aws/ssmcontrol":   5,
	"shared/lease/leasehttp":  5,
	"shared/purge":            5,
	"shared/replica":          5,
	"shared/verification":     5,
	"lambdas/local/supervise": 5,

	"lambdas/local/drill": 6,
	"lambdas/silence":     5,

	"shared/registry/registryopen": 6,

	"lambdas/pitrverify":     6,
	"scripts/kill9/rounds":   6,
	"scripts/waldump/dump":   6,
	"shared/lease/leaseopen": 6,
	"writer":                 6,

	"follower":              7,
	"lambdas/local/command": 7,
	"lambdas/local/proxy":   7,
	"lambdas/local/zone":    7,
	"scripts/demo":          7,
	"scripts/kill9":         7,
	"scripts/oc-pitr/pitr":  7,
	"scripts/waldump":       7,
	"test/bench/litestream": 7,
	"test/bench/load":       7,
	"test/bench/postgres":   7,
	"test/netns":            7,
	"test/oracle":           7,
	"test/settle":           7,
	"test/systemctl":        7,
	"writer/config":         7,

	"lambdas/local/plane": 8,
	"scripts/oc-pitr":     8,
	"scripts/promote":     8,
	"writer/process":      8,
	"writer/machine":      8,
	"test/systemctl/shim": 8,

	"follower/node":   9,
	"infra/documents": 9,
	"writer/agent":    9,

	"follower/cmd/oc-follower":     10,
	"lambdas/local/cmd/oc-control": 10,
	"writer/cmd/oc-node":           10,
	"writer/cmd/oc-server":         10,

	"test/arch":         10,
	"test/bench":        10,
	"test/cluster":      10,
	"test/differential": 10,
	"test/docs":         10,
	"test/drills":       10,
	"test/e2e":          10,
	"test/pitr":         10,
	"test/replsim":      10,
	"test/sim":          10,
}

// reserved names modules that only some packages may import; the longest row
// that fits a path decides. A package is named with everything below it.
var reserved = []struct {
	module string
	// code may import it, tests may use it in their files alone.
	code, tests []string
	why         string
}{
	{module: "github.com/aws/", code: []string{"shared/aws", "test/awsfake"}, why: "only shared/aws knows AWS"},
	{module: "github.com/versity/versitygw", code: []string{"shared/aws/s3object/s3test"}, why: "it is the S3 of tests"},
	{module: "originchain/shared/aws/s3object/s3test", tests: []string{"shared", "writer", "follower", "lambdas", "scripts", "test"},
		why: "it is the S3 of tests"},
	{module: "originchain/shared/aws/s3object/s3test/gateway", code: []string{"shared/aws/s3object/s3test", "test/bench"},
		why: "it is the S3 of tests and benchmarks"},
	{module: "github.com/dolthub/", code: []string{"shared/sql"}, why: "only shared/sql knows which SQL engine runs"},
	{module: "github.com/cockroachdb/pebble/v2", code: []string{"shared/pacing", "shared/table", "test"}, tests: []string{"shared/simdisk"},
		why: "only shared/table knows which store holds the state"},
	{module: "github.com/cockroachdb/pebble/v2/vfs", code: []string{"shared", "writer", "follower", "lambdas", "scripts", "test"}, tests: []string{"infra"},
		why: "it is how files are reached"},
	{module: "originchain/shared/simdisk", code: []string{"shared/simdisk"}, tests: []string{"shared", "writer", "follower", "lambdas", "test"},
		why: "a disk that forgets is for tests alone"},
	{module: "originchain/shared/objecttest", code: []string{"shared/objecttest"}, tests: []string{"shared", "writer", "follower", "lambdas", "scripts", "test"},
		why: "a store that fails on purpose is for tests alone"},
	{module: "google.golang.org/grpc", code: []string{"shared/replica"}, tests: []string{"shared/mtls"}, why: "only shared/replica knows how nodes talk"},
	{module: "google.golang.org/protobuf", code: []string{"shared/replica", "scripts/protogen"}, why: "only shared/replica knows how nodes talk"},
	{module: "github.com/bufbuild/protocompile", code: []string{"scripts/protogen"}, why: "code is generated when it changes, not when it runs"},
	{module: "originchain/test/awsfake", code: []string{"test/awsfake"}, tests: []string{"shared", "writer", "lambdas", "scripts", "test"},
		why: "it is the AWS of tests"},
	{module: "github.com/miekg/dns", code: []string{"lambdas/local/zone", "test/awsfake"}, tests: []string{"shared/aws/route53dns"},
		why: "only lambdas/local/zone answers DNS"},
	{module: "modernc.org/sqlite", code: []string{"test"}, tests: []string{"shared"}, why: "it is the oracle of tests, not a store"},
	{module: "github.com/anishathalye/porcupine", tests: []string{"test"}, why: "it checks histories that tests make"},
	{module: "go.uber.org/goleak", tests: []string{"shared", "writer", "follower", "lambdas", "scripts", "test"}, why: "it is for tests"},
	{module: "testing", code: []string{"shared/leasetest", "shared/registrytest", "shared/objecttest", "shared/aws/s3object/s3test", "shared/aws/ddblease/ddbtest", "test/awsfake"}, tests: []string{"infra", "shared", "writer", "follower", "lambdas", "scripts", "test"}, why: "it is for tests"},
}

// replayed packages turn a log into a state, on every node and years later: they
// read no clock and no randomness.
var replayed = []string{"shared/frame", "shared/schema", "shared/table", "shared/rows", "shared/recover"}
