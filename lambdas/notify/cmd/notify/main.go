// Notify is the function that keeps incidents and tells subscribers of them.
package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/documents"
	"originchain/lambdas/notify"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/aws/sesmail"
	"originchain/shared/aws/session"
	"originchain/shared/incident"
	"originchain/shared/notice"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "notify", Needs: []string{awsenv.ControlRegistry, awsenv.MailFrom}, May: []string{awsenv.Instance, awsenv.Instances, awsenv.Registry}, Open: open})
}

func open(ctx context.Context, e *awsenv.Env, log *logrus.Logger) (awsenv.Handler, error) {
	control, err := e.Documents(ctx, awsenv.ControlRegistry)
	if err != nil {
		return nil, err
	}
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	// The service is given as long as an attempt may take. Its connections do not outlive the
	// function's sleep: one that was cut meanwhile would cost an attempt.
	mailCfg, err := session.Load(ctx, session.Config{AnswerTimeout: notice.AttemptTimeout, Transport: func(t *http.Transport) { t.IdleConnTimeout = session.FrozenIdle }})
	if err != nil {
		return nil, err
	}
	mail, err := sesmail.New(mailCfg, e.Get(awsenv.MailFrom), time.Now)
	if err != nil {
		return nil, err
	}
	docs := documents.Of(control)
	store := incident.NewStore(docs, incident.NewRoster(docs), time.Now, rand.Float64)
	told := notify.New(store, notice.NewWebhooks(notice.WebhookConfig{Now: time.Now}), mail, log)
	book := &notify.Book{Incidents: store, Instance: e.Get(awsenv.Instance), Now: time.Now, Alarms: cwalarms.New(cfg).Named}
	if v := e.Get(awsenv.Instances); v != "" {
		book.Deployed = strings.Split(v, ",")
	}
	if book.Instance != "" {
		if book.Registry, err = e.Documents(ctx, awsenv.Registry); err != nil {
			return nil, err
		}
	}
	publish := notify.Publish(os.Stdout, book.Instance, time.Now)
	return func(ctx context.Context, c awsenv.Call) (any, error) {
		return notify.NewHandler(notify.HandlerDeps{Notifier: told, Keep: book.Keep(c.Log), Account: c.Account, Region: c.Region, Log: c.Log, Publish: publish}).Handle(ctx, c.Payload)
	}, nil
}
