package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestRun(t *testing.T) {
	broken := errors.New("it is broken\non two lines")
	for _, c := range []struct {
		args       []string
		code       int
		out, wrong string
	}{
		{[]string{"do"}, ExitOK, "done\n", ""},
		{[]string{"fail"}, 7, "", "oc-x: it is broken\noc-x: on two lines\n"},
		{[]string{"fail", "more"}, ExitUsage, "", "oc-x: unknown command \"more\" for \"oc-x fail\"\noc-x: run oc-x --help for the options\n"},
		{[]string{"do", "--what"}, ExitUsage, "", "oc-x: unknown flag: --what\noc-x: run oc-x --help for the options\n"},
		{[]string{"wrap"}, ExitUsage, "", "oc-x: in it: give more\noc-x: run oc-x --help for the options\n"},
		{[]string{"completion", "csh"}, ExitUsage, "", "oc-x: invalid argument \"csh\" for \"oc-x completion\"\noc-x: run oc-x --help for the options\n"},
	} {
		root := &cobra.Command{Use: "oc-x --of ARGS"}
		for name, err := range map[string]error{"do": nil, "fail": broken, "wrap": fmt.Errorf("in it: %w", Usage(errors.New("give more")))} {
			root.AddCommand(&cobra.Command{Use: name, Args: NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
				if err == nil {
					cmd.Println("done")
				}
				return err
			}})
		}
		root.AddCommand(Completion(Usage))
		var out, said strings.Builder
		code := Run(t.Context(), root, Streams{Args: c.args, Stdout: &out, Stderr: &said}, func(err error) int {
			if !errors.Is(err, broken) {
				t.Errorf("%v: asked for the code of %v", c.args, err)
			}
			return 7
		})
		if c.out != "" {
			out.WriteString(said.String()) // Println is for people
			said.Reset()
		}
		if code != c.code || out.String() != c.out || said.String() != c.wrong {
			t.Errorf("%v: %d\n%q\n%q", c.args, code, out.String(), said.String())
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		root := &cobra.Command{Use: "oc-x"}
		root.AddCommand(Completion(Usage))
		var out strings.Builder
		if code := Run(t.Context(), root, Streams{Args: []string{"completion", shell}, Stdout: &out, Stderr: &out}, func(error) int { return 7 }); code != ExitOK || !strings.Contains(out.String(), "oc-x") || strings.Contains(out.String(), "oc-x: ") {
			t.Errorf("%s: %d %s", shell, code, out.String())
		}
	}
	if Usage(nil) != nil {
		t.Error("no error is a mistake")
	}
}
