package pitr

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/frame"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/purge"
	recovery "originchain/shared/recover"
	"originchain/shared/restore"
)

const top = "../../.."

// typedErrors are the errors that the packages below the program give a name to, and
// the exit code of each.
func typedErrors() map[string]struct {
	code int
	err  error
} {
	instance := archive.InstanceKey{}.String()
	return map[string]struct {
		code int
		err  error
	}{
		"restore.TargetError":          {ExitGap, &restore.TargetError{Why: restore.Gap, From: &restore.Point{}, Until: &restore.Point{}}},
		"restore.TargetError future":   {ExitFuture, &restore.TargetError{Why: restore.Future, From: &restore.Point{}, Until: &restore.Point{}}},
		"restore.TargetError before":   {ExitBefore, &restore.TargetError{Why: restore.Before, From: &restore.Point{}, Until: &restore.Point{}}},
		"restore.TargetError after":    {ExitAfter, &restore.TargetError{Why: restore.After, From: &restore.Point{}, Until: &restore.Point{}}},
		"restore.TargetError line":     {ExitNoLine, &restore.TargetError{Why: restore.NoLine}},
		"restore.TargetError none":     {ExitGap, &restore.TargetError{Why: restore.Nothing}},
		"restore.ClockError":           {ExitClock, &restore.ClockError{}},
		"restore.CheckpointError":      {ExitNoBegin, &restore.CheckpointError{}},
		"restore.BeginError":           {ExitDamaged, &restore.BeginError{Err: &archive.DamagedError{Err: errors.New("cut")}}},
		"restore.BeginError missing":   {ExitMissing, &restore.BeginError{Err: &archive.MissingError{Key: "files/x"}}},
		"restore.NotEmptyError":        {ExitNotEmpty, &restore.NotEmptyError{}},
		"restore.OtherRestoreError":    {ExitBusy, &restore.OtherRestoreError{}},
		"restore.PurgedError":          {ExitPurged, &restore.PurgedError{}},
		"restore.PassedError":          {ExitPassed, &restore.PassedError{}},
		"restore.DigestError":          {ExitDigest, &restore.DigestError{}},
		"restore.ScratchError":         {ExitScratch, &restore.ScratchError{}},
		"restore.LiveError":            {ExitLive, &restore.LiveError{}},
		"restore.ErrNotRestored":       {ExitNoCopy, restore.ErrNotRestored},
		"recover.MismatchError":        {ExitDigest, &recovery.MismatchError{}},
		"archive.FencedError":          {ExitRecord, &archive.FencedError{}},
		"archive.DamagedError":         {ExitDamaged, &archive.DamagedError{Err: errors.New("cut")}},
		"archive.ConflictError":        {ExitDamaged, &archive.ConflictError{}},
		"archive.MissingError":         {ExitMissing, &archive.MissingError{}},
		"archive.MissingError archive": {ExitNoArchive, &archive.MissingError{Key: instance}},
		"archive.ForeignError":         {ExitForeign, &archive.ForeignError{}},
		"archive.ForeignError archive": {ExitInstance, &archive.ForeignError{Key: instance}},
		"archive.RegionError":          {ExitRegion, &archive.RegionError{}},
		"archive.NewerError":           {ExitNewer, &archive.NewerError{}},
		"archive.ErrOvertaken":         {ExitPlan, archive.ErrOvertaken},
		"frame.NewerError":             {ExitNewer, &frame.NewerError{}},
		"datadir.ErrLocked":            {ExitBusy, datadir.ErrLocked},
		"datadir.ErrForeign":           {ExitNoCopy, datadir.ErrForeign},
		"datadir.ErrNewer":             {ExitNewer, datadir.ErrNewer},
		"object.ErrURL":                {ExitUsage, object.ErrURL},
		"object.ErrDenied":             {ExitDenied, object.ErrDenied},
		"object.ErrNoStore":            {ExitNoArchive, object.ErrNoStore},
		"object.ErrNoSpace":            {ExitNoSpace, object.ErrNoSpace},
		"object.ErrContent":            {ExitDamaged, object.ErrContent},
		"lease.ErrOtherInstance":       {ExitInstance, lease.ErrOtherInstance},
		"lease.ErrNewerFormat":         {ExitNewer, lease.ErrNewerFormat},
		"lease.ConflictError":          {ExitRecord, &lease.ConflictError{}},
		"lease.RefusedError":           {ExitRecord, &lease.RefusedError{}},
		"lease.FencedError":            {ExitRecord, &lease.FencedError{}},
		"lease.OutcomeUnknownError":    {ExitRecord, &lease.OutcomeUnknownError{Err: errors.New("cut off")}},
		"purge.LiveError":              {ExitStillLive, &purge.LiveError{}},
		"purge.PlanError":              {ExitPlan, &purge.PlanError{}},
		"purge.UnfitError":             {ExitUnfit, &purge.UnfitError{}},
		"purge.ErrSelector":            {ExitUsage, purge.ErrSelector},
	}
}

// withoutCode are named errors that have no code of their own, and why.
func withoutCode() map[string]string {
	const (
		ships  = "of a writer that ships"
		reads  = "always inside of one that says which object"
		holds  = "of a writer that renews"
		passes = "the store is away or has failed: run again"
	)
	return map[string]string{
		"archive.ErrIncomplete": ships, "archive.ErrNotOwnEpoch": ships, "archive.ErrNotConnected": ships, "archive.ErrAboveCommit": ships, "archive.ErrSuperseded": ships, "archive.UnpurgedError": ships, "archive.BehindError": ships, "archive.ErrTailPaused": ships, "archive.UnshippedError": ships,
		"archive.StragglerError": "listed by the survey, and not met by a restore",
		"archive.ErrChanged":     "of the retention, which a writer runs", "archive.ClockError": "of the retention, which a writer runs", "archive.KeyError": reads,
		"frame.ErrNoFrame": reads, "frame.ErrFooter": reads, "frame.DecodeError": reads,
		"datadir.ErrStaleLeader": "of a follower",
		"object.ErrExists":       "is success, or is read back", "object.ErrNotFound": reads, "object.ErrRange": reads, "object.ErrKey": reads, "object.ErrFailed": passes, "object.Error": "carries one of the others",
		"lease.ErrUnconfirmed": holds, "lease.ErrConfirmed": holds, "lease.ErrCommitFalls": holds, "lease.ErrNotMember": holds, "lease.ErrSetFull": holds, "lease.NotGivenError": holds, "lease.ErrFailed": passes,
	}
}

// TestEveryTypedErrorHasItsExitCode, alone and with what is said around it.
func TestEveryTypedErrorHasItsExitCode(t *testing.T) {
	known := map[int]bool{}
	for _, r := range exitTable() {
		known[r.code] = true
	}
	for name, x := range typedErrors() {
		if x.code == ExitFailure || !known[x.code] {
			t.Errorf("%s has exit code %d, which the table has not or which says nothing", name, x.code)
		}
		for _, err := range []error{x.err, fmt.Errorf("while it ran: %w", x.err), errors.Join(errors.New("before"), x.err)} {
			if got := exitCode(err); got != x.code {
				t.Errorf("%s: exit code %d, want %d (%v)", name, got, x.code, err)
			}
		}
	}
}

// TestNoTypedErrorIsForgotten: the packages are read for what they name.
func TestNoTypedErrorIsForgotten(t *testing.T) {
	want := withoutCode()
	for name := range typedErrors() {
		name, _, _ = strings.Cut(name, " ")
		if _, both := want[name]; both {
			t.Errorf("%s has a code and a reason to have none", name)
		}
	}
	for name := range typedErrors() {
		name, _, _ = strings.Cut(name, " ")
		want[name] = ""
	}
	var got []string
	for _, pkg := range []string{"archive", "datadir", "frame", "lease", "object", "purge", "recover", "restore"} {
		got = append(got, errorNames(t, pkg)...)
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), got); diff != "" {
		t.Errorf("errors with a code or a reason (-) against those that there are (+):\n%s", diff)
	}
}

// errorNames are the exported error types and values of a package.
func errorNames(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, "shared", pkg, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			names = append(names, errorsOf(pkg, d)...)
		}
	}
	return names
}

func errorsOf(pkg string, d ast.Decl) (names []string) {
	g, ok := d.(*ast.GenDecl)
	if !ok {
		return nil
	}
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if n := s.Name.Name; ast.IsExported(n) && strings.HasSuffix(n, "Error") {
				names = append(names, pkg+"."+n)
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if g.Tok == token.VAR && strings.HasPrefix(n.Name, "Err") {
					names = append(names, pkg+"."+n.Name)
				}
			}
		}
	}
	return names
}

// TestTheRunbookHasEveryExitCode, and none that there is not; so has --help.
func TestTheRunbookHasEveryExitCode(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(top, "docs", "RUNBOOK.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "| exit code | what to do |")
	if !ok {
		t.Fatal("the runbook has no table of exit codes")
	}
	section, _, _ = strings.Cut(section, "\n\n")
	var got []int
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, row := range regexp.MustCompile(`(?m)^\| ([0-9, to]+) \|`).FindAllStringSubmatch(section, -1) {
		for part := range strings.SplitSeq(row[1], ", ") {
			from, to, isRange := strings.Cut(part, " to ")
			got = append(got, number(from))
			for n := number(from) + 1; isRange && n <= number(to); n++ {
				got = append(got, n)
			}
		}
	}
	var want []int
	help := exitCodes()
	for _, r := range exitTable() {
		if !strings.Contains(help, fmt.Sprintf("\n  %2d  ", r.code)) {
			t.Errorf("--help lacks %d", r.code)
		}
		if r.code != ExitOK {
			want = append(want, r.code)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the codes (-) against the runbook's (+):\n%s", diff)
	}
}
