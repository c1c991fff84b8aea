// Package ssmcontrol is failover.Control over SSM run-command: each call is a command of
// a document on one machine, which runs oc-node there, and what that prints.
//
// SSM may deliver a command late: after the caller has gone, or after a newer one. So each
// command that changes something carries the epoch of the lease record by which its caller
// acts (AsOf), and the machine refuses it if the record has another one by then. What the
// record is when a command is sent is no such word: a caller that has stood still would stop
// a newer writer by it.
package ssmcontrol

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"originchain/shared/aws/session"
	"originchain/shared/failover"
	"originchain/shared/lease"
)

const (
	// answerTimeout bounds one request; attempts and maxBackoff what the SDK sends again.
	answerTimeout = 5 * time.Second
	attempts      = 3
	maxBackoff    = time.Second
	// deliverySeconds is how long SSM may try to deliver a command: the least that it
	// takes.
	deliverySeconds = 30
	// firstPoll and lastPoll are the pauses before a command is asked after, which grow.
	firstPoll = 150 * time.Millisecond
	lastPoll  = time.Second
	// way is how long a command takes to a machine that is well, and its answer back: SSM
	// sends it, the agent fetches it, and the state is asked for at pauses of up to lastPoll.
	way = 3 * time.Second
	// maxWait bounds a call where its context does not.
	maxWait = 2 * time.Minute
	// cancelTime is what is left of a call's time for the cancellation of a command that
	// changes something and was not heard of.
	cancelTime = 300 * time.Millisecond
	// maxUnitBytes bounds a unit file: SSM gives back 24,000 characters of what a command
	// prints, and what is written must be readable.
	maxUnitBytes = 16 << 10
	// ExitEpoch is the exit code of a verb that the record's epoch has forbidden.
	ExitEpoch = 3
)

// verb is what oc-node is told; document is <prefix>-<verb>.
type verb string

const (
	verbProcess verb = "process"
	verbStop    verb = "stop"
	verbStart   verb = "start"
	verbRestart verb = "restart"
	verbUnit    verb = "unit"
	verbRewrite verb = "rewrite"
)

// reads says that a verb changes nothing: it is of no epoch, may be sent twice, and need
// not be called back.
func (v verb) reads() bool { return v == verbProcess || v == verbUnit }

// Parameters of the documents.
const (
	// EpochParameter is the record's epoch; noEpoch for verbs that change nothing.
	EpochParameter = "Epoch"
	noEpoch        = "0"
	// TextParameter is the unit file for rewrite, in base64.
	TextParameter = "Text"
)

// Config says which documents.
type Config struct {
	// Prefix of the documents' names: OriginChain-<instance>.
	Prefix string
	session.Config

	// pace is set by tests, which have no time: in place of all pauses.
	pace time.Duration
}

// Control is a failover.Control. It needs ssm:SendCommand on the documents and the
// instances, ssm:GetCommandInvocation and ssm:CancelCommand.
type Control struct {
	config Config
	client *ssm.Client
	leases lease.Store
	// epoch is that of the record by which its caller acts; 0: of none, and then it only reads.
	epoch uint64
}

var (
	_ failover.Control = (*Control)(nil)
	_ failover.Dated   = (*Control)(nil)
	_ failover.Paced   = (*Control)(nil)
)

var prefixes = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,100}$`)

// New returns the control of an instance whose lease record is in a store. It sends no
// request.
func New(ctx context.Context, c Config, leases lease.Store) (*Control, error) {
	if !prefixes.MatchString(c.Prefix) {
		return nil, fmt.Errorf("%q is no prefix of the names of SSM documents, as OriginChain-orders", c.Prefix)
	}
	c.AnswerTimeout, c.Retryer = answerTimeout, session.Attempts(attempts, c.pause(maxBackoff))
	loaded, err := session.Load(ctx, c.Config)
	if err != nil {
		return nil, fmt.Errorf("reach SSM for the documents %s-…: %w", c.Prefix, err)
	}
	client := ssm.NewFromConfig(loaded, func(o *ssm.Options) { o.BaseEndpoint = c.Base(o.BaseEndpoint) })
	return &Control{config: c, client: client, leases: leases}, nil
}

// AsOf implements failover.Dated.
func (c *Control) AsOf(epoch uint64) failover.Control {
	by := *c
	by.epoch = epoch
	return &by
}

// Pace implements failover.Paced.
func (c *Control) Pace() time.Duration { return c.config.pause(way) }

// running is a process as oc-node prints it.
type running struct {
	Running *bool  `json:"running"`
	PID     int    `json:"pid"`
	Reaped  *bool  `json:"reaped"`
	Place   string `json:"place"`
}

// process is what was printed, if it is whole: what says nothing is not taken for "no".
func (p running) process(n failover.Node) (failover.Process, error) {
	if p.Running == nil || p.Reaped == nil {
		return failover.Process{}, fmt.Errorf("ask for the process of %s: %s printed nothing of whether it runs and was reaped", n.ID, n.Machine)
	}
	return failover.Process{Running: *p.Running, PID: p.PID, Reaped: *p.Reaped, Place: p.Place}, nil
}

// unitText is a unit file as oc-node prints it.
type unitText struct {
	Name string `json:"name"`
	Text []byte `json:"text"` // in base64
}

// Process implements failover.Control.
func (c *Control) Process(ctx context.Context, n failover.Node) (failover.Process, error) {
	return c.process(ctx, n, verbProcess)
}

// Stop implements failover.Control.
func (c *Control) Stop(ctx context.Context, n failover.Node) (failover.Process, error) {
	p, err := c.process(ctx, n, verbStop)
	if err == nil && p.Running {
		err = fmt.Errorf("stop the server of %s: it was told to stop, and process %d runs", n.ID, p.PID)
	}
	return p, err
}

func (c *Control) process(ctx context.Context, n failover.Node, v verb) (failover.Process, error) {
	var p running
	if err := c.command(ctx, n, v, nil, &p); err != nil {
		return failover.Process{}, err
	}
	return p.process(n)
}

// Start implements failover.Control.
func (c *Control) Start(ctx context.Context, n failover.Node) error {
	return c.command(ctx, n, verbStart, nil, nil)
}

// Restart implements failover.Control.
func (c *Control) Restart(ctx context.Context, n failover.Node) error {
	return c.command(ctx, n, verbRestart, nil, nil)
}

// Unit implements failover.Control.
func (c *Control) Unit(ctx context.Context, n failover.Node) (name string, text []byte, err error) {
	var u unitText
	if err := c.command(ctx, n, verbUnit, nil, &u); err != nil {
		return "", nil, err
	}
	if u.Name == "" || len(u.Text) == 0 {
		return "", nil, fmt.Errorf("read the unit of %s: %s printed a unit %q of %d bytes", n.ID, n.Machine, u.Name, len(u.Text))
	}
	return u.Name, u.Text, nil
}

// Rewrite implements failover.Control.
func (c *Control) Rewrite(ctx context.Context, n failover.Node, text []byte) error {
	if len(text) == 0 || len(text) > maxUnitBytes {
		return fmt.Errorf("rewrite the unit of %s: %d bytes, want 1 to %d; nothing was sent", n.ID, len(text), maxUnitBytes)
	}
	return c.command(ctx, n, verbRewrite, map[string][]string{TextParameter: {base64.StdEncoding.EncodeToString(text)}}, nil)
}

// machines are the ids that SSM knows machines by: of EC2, and of others.
var machines = regexp.MustCompile(`^(i-([0-9a-f]{8}|[0-9a-f]{17})|mi-[0-9a-f]{17})$`)

// command runs a verb on the node's machine, and reads what it prints into out, which may
// be nil.
//
// Invariant: a command that changes something is sent once. What was not answered may be
// delivered yet, in any order with a second one, and could undo what came after it in the
// same epoch; so its caller is told, and decides.
func (c *Control) command(ctx context.Context, n failover.Node, v verb, parameters map[string][]string, out any) error {
	o := order{node: n, verb: v, epoch: noEpoch}
	if !machines.MatchString(n.Machine) {
		return fmt.Errorf("%s: %q is no machine that SSM knows; nothing was sent", o, n.Machine)
	}
	if !v.reads() {
		if err := c.stands(ctx, &o); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	waiting, end := leaveTime(ctx, v)
	defer end()
	if err := c.send(waiting, &o, parameters); err != nil {
		return err
	}
	printed, err := c.follow(waiting, o)
	if err != nil {
		var unknown *UnknownError
		if errors.As(err, &unknown) && !v.reads() {
			c.callBack(ctx, o)
		}
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(printed), out); err != nil {
		return fmt.Errorf("%s: %s has carried it out, and what it printed, %d bytes, is not understood: %w", o, n.Machine, len(printed), err)
	}
	return nil
}

// stands gives a command its epoch, if the record is still of that one: the machine would
// refuse it else, and its caller would hear so later.
func (c *Control) stands(ctx context.Context, o *order) error {
	if c.epoch == 0 {
		return fmt.Errorf("%s: nobody has said by which epoch's record; nothing was sent", o)
	}
	o.epoch = strconv.FormatUint(c.epoch, 10)
	r, ok, err := c.leases.Load(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%s: read the record of who writes, whose epoch the command carries: %w; nothing was sent", o, err)
	case !ok:
		return fmt.Errorf("%s: there is no record of who writes, whose epoch the command carries; nothing was sent", o)
	case uint64(r.Epoch) != c.epoch:
		return &EpochError{Order: o.String(), Machine: o.node.Machine, Epoch: o.epoch, Found: uint64(r.Epoch)}
	}
	return nil
}

// leaveTime is a context that ends a little before its parent, so that a command that
// changes something can be called back in the time that there is.
func leaveTime(ctx context.Context, v verb) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline() // it has one: maxWait
	if v.reads() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-max(0, min(cancelTime, time.Until(deadline)/4))))
}

// order is one command.
type order struct {
	node    failover.Node
	verb    verb
	epoch   string
	command string // SSM's id, once it is known
}

// String implements fmt.Stringer.
func (o order) String() string {
	switch o.verb {
	case verbProcess:
		return "ask for the process of " + o.node.ID
	case verbUnit:
		return "read the unit of " + o.node.ID
	case verbRewrite:
		return "rewrite the unit of " + o.node.ID
	}
	return string(o.verb) + " the server of " + o.node.ID
}

// send hands a command to SSM.
func (c *Control) send(ctx context.Context, o *order, parameters map[string][]string) error {
	given := map[string][]string{EpochParameter: {o.epoch}}
	for name, value := range parameters {
		given[name] = value
	}
	sent, err := c.client.SendCommand(ctx, &ssm.SendCommandInput{
		DocumentName: aws.String(c.config.Prefix + "-" + string(o.verb)), InstanceIds: []string{o.node.Machine},
		TimeoutSeconds: aws.Int32(deliverySeconds), Parameters: given, Comment: aws.String(comment(*o)),
	}, func(options *ssm.Options) {
		if !o.verb.reads() {
			options.Retryer = c.onlyRefused()
		}
	})
	var unknownMachine *types.InvalidInstanceId
	switch {
	case errors.As(err, &unknownMachine):
		return &UnreachableError{Order: o.String(), Machine: o.node.Machine, Err: err}
	case err == nil && sent.Command != nil && aws.ToString(sent.Command.CommandId) != "":
		o.command = *sent.Command.CommandId
		return nil
	case err == nil:
		return &UnknownError{Order: o.String(), Machine: o.node.Machine, Epoch: o.epoch, Err: errors.New("SSM has taken it and names no command")}
	case o.verb.reads() || notTaken(err):
		return fmt.Errorf("%s: send the command to %s: %w; nothing was sent", o, o.node.Machine, err)
	}
	return &UnknownError{Order: o.String(), Machine: o.node.Machine, Epoch: o.epoch, Err: err}
}

// comment is for people who look at the list of commands; SSM takes 100 characters.
func comment(o order) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, o.String()+", epoch "+o.epoch)
	return text[:min(len(text), 100)]
}
