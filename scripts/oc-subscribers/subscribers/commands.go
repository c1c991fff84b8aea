package subscribers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"originchain/shared/alarms"
	"originchain/shared/cli"
	"originchain/shared/incident"
	"originchain/shared/notice"
	"originchain/shared/secretfile"
)

// maxFileBytes bounds a file with a secret or a URL.
const maxFileBytes = 4 << 10

// row is a subscriber as it is shown: without what is secret.
type row struct {
	ID string `json:"id"`
	// By is email or webhook.
	By    string          `json:"by"`
	Email string          `json:"email,omitempty"`
	UpTo  alarms.Severity `json:"up_to"`
}

const byEmail, byWebhook = "email", "webhook"

func rowOf(s *incident.Subscriber) row {
	if s.Webhook != "" {
		return row{ID: s.ID, By: byWebhook, UpTo: s.UpTo}
	}
	return row{ID: s.ID, By: byEmail, Email: s.Email, UpTo: s.UpTo}
}

func (c *command) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list --registry URL", Short: "List who is told", Args: cli.NoArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			roster, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			subs, err := roster.Subscribers(cmd.Context())
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(subs))
			for i := range subs {
				rows = append(rows, rowOf(&subs[i]))
			}
			return c.print(struct {
				Subscribers []row `json:"subscribers"`
			}{rows}, func(w io.Writer) error { return table(w, rows) })
		},
	}
}

func table(out io.Writer, rows []row) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "nobody is told of incidents")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ID\tBY\tADDRESS\tUP TO") // Flush has the error
	for _, r := range rows {
		address := r.Email
		switch {
		case r.By == byWebhook:
			address = "(not shown)"
		case notice.CheckAddress(address) != nil: // put there by hand
			address = strconv.QuoteToASCII(address)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", r.ID, r.By, address, r.UpTo)
	}
	return w.Flush()
}

// adding are the options of add.
type adding struct {
	id, email            string
	url, urlFile, secret string
	upTo                 int
	replace              bool
}

func (c *command) addCommand() *cobra.Command {
	var o adding
	cmd := &cobra.Command{
		Use: "add --registry URL --id ID (--email ADDRESS | --url URL --secret-file FILE)", Short: "Add a subscriber", Args: cli.NoArgs, DisableFlagsInUseLine: true,
		Long: `Add a subscriber, who is told of incidents that are opened or updated from now on.

A webhook is a POST of JSON, signed with the one line of --secret-file; it leads to a public
address. Both files are refused while others may read them. A URL that is a secret itself is
better in a file: other users of a machine see the command line.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.add(cmd.Context(), &o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.id, "id", "", "the subscriber's name, which its deliveries carry")
	f.StringVar(&o.email, "email", "", "the address to send to")
	f.StringVar(&o.url, "url", "", "the webhook's URL, https://…")
	f.StringVar(&o.urlFile, "url-file", "", "a file with the webhook's URL")
	f.StringVar(&o.secret, "secret-file", "", fmt.Sprintf("a file with what webhooks are signed with, of at least %d bytes", notice.MinSecretBytes))
	f.IntVar(&o.upTo, "up-to", int(alarms.TenantDown), "the mildest severity that it is told of, 1 to 3")
	f.BoolVar(&o.replace, "replace", false, "in place of the subscriber of this id")
	return cmd
}

func (c *command) add(ctx context.Context, o *adding) error {
	sub, err := o.subscriber()
	if err != nil {
		return err
	}
	roster, err := c.open(ctx)
	if err != nil {
		return err
	}
	if o.replace {
		err = roster.Replace(ctx, sub)
	} else {
		err = roster.Subscribe(ctx, sub)
	}
	if errors.Is(err, incident.ErrSubscribed) {
		err = fmt.Errorf("%w: give --replace to have this one in its place", err)
	}
	if err != nil {
		return err
	}
	return c.print(rowOf(&sub), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is told of incidents of severity 1 to %d, by %s\n", sub.ID, sub.UpTo, rowOf(&sub).By)
		return err
	})
}

// subscriber is who the options say, checked.
func (o *adding) subscriber() (sub incident.Subscriber, err error) {
	switch webhook := o.url != "" || o.urlFile != ""; {
	case o.url != "" && o.urlFile != "":
		return sub, cli.Usage(errors.New("give --url or --url-file, not both"))
	case webhook && o.secret == "":
		return sub, cli.Usage(errors.New("--secret-file: a webhook is signed; say with what"))
	case !webhook && o.secret != "":
		return sub, cli.Usage(errors.New("--secret-file is for a webhook"))
	}
	sub = incident.Subscriber{ID: o.id, Email: o.email, Webhook: incident.Secret(o.url), UpTo: alarms.Severity(o.upTo)}
	for _, f := range []struct {
		option, path string
		into         *incident.Secret
	}{{"--url-file", o.urlFile, &sub.Webhook}, {"--secret-file", o.secret, &sub.Secret}} {
		if f.path == "" {
			continue
		}
		line, err := secretfile.Line(f.path, maxFileBytes)
		if err != nil {
			return sub, fmt.Errorf("%s: %w", f.option, err)
		}
		*f.into = incident.Secret(line)
	}
	return sub, cli.Usage(sub.Check(notice.CheckAddress, checkURL))
}

// checkURL says whether the function could reach a webhook: none is on its own machine.
func checkURL(raw string) error {
	if err := notice.CheckURL(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "https":
		return errors.New("a webhook's URL is https")
	case len(raw) > maxFileBytes:
		return fmt.Errorf("the webhook's URL has %d bytes, at most %d", len(raw), maxFileBytes)
	}
	return nil
}

func (c *command) removeCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "remove --registry URL --id ID", Short: "Remove a subscriber: what it is still owed is given up", Args: cli.NoArgs, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := incident.CheckSubscriberID(id); err != nil {
				return cli.Usage(fmt.Errorf("--id: %w", err))
			}
			roster, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			if err := roster.Unsubscribe(cmd.Context(), id); err != nil {
				return err
			}
			return c.print(struct {
				Removed string `json:"removed"`
			}{id}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is told of nothing any more\n", id)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the subscriber's name")
	return cmd
}
