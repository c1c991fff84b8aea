// Which findings are excused, and which excuses are none.
//
// A finding is {stack, id, rule, says}: id is the logical id of the resource, '' for a
// whole template. One about statements of a policy has their sids as well: it is excused
// when each is named, so that a statement that is added later is not. One about wildcards is
// of statements: where nobody knows of which, it is not excused.

// A reason says more than that there is one.
const minReason = 20;
const wildcards = /^cdk-nag::IAMNoWildcardPermissions\b/;
const known = /^(cdk-nag::[A-Za-z0-9]+(\[.+\])?|cfn-guard::[a-z0-9_]+)$/s;

export function judge(assemblies, findings) {
  const errors = [];
  const say = (stack, kind, rest) => errors.push({ assembly: stack.assembly, stack: stack.name, kind, ...rest });
  let excused = 0;
  for (const f of findings) {
    const at = f.stack.paths.get(f.id) ?? '/' + f.stack.name;
    const by = f.stack.excuses.filter((e) => e.rule === f.rule && known.test(e.rule) && (at === e.path || at.startsWith(e.path + '/')));
    for (const e of by) {
      e.used++;
      for (const sid of e.sids) if (f.sids?.includes(sid)) e.there.add(sid);
    }
    const named = by.flatMap((e) => e.sids);
    // Of two statements of one name, the second is none that was named.
    const others = (f.sids ?? []).filter((sid, i, all) => !named.includes(sid) || all.indexOf(sid) !== i);
    if (by.length === 0) say(f.stack, 'finding', { rule: f.rule, path: at, resource: f.id, says: f.says });
    else if (others.length > 0 || (wildcards.test(f.rule) && !f.sids?.length)) say(f.stack, 'no excuse names the statement', { rule: f.rule, path: at, resource: f.id, sids: others, says: f.says });
    else excused++;
  }
  for (const stack of assemblies.flatMap((a) => a.stacks)) {
    for (const { path, rule, reason, used, sids, there } of stack.excuses) {
      const missing = sids.filter((sid) => !there.has(sid));
      if (!known.test(rule)) say(stack, 'no such form of a rule', { rule, path });
      else if (used === 0) say(stack, 'excuses nothing', { rule, path, reason });
      else if (missing.length > 0) say(stack, 'names no such statement', { rule, path, sids: missing });
      if ((reason ?? '').trim().length < minReason) say(stack, 'gives no reason', { rule, path, reason });
    }
  }
  const stacks = assemblies.reduce((n, a) => n + a.stacks.length, 0);
  return { errors, summary: `${stacks} templates: ${errors.length} errors, ${excused} findings excused by a reason` };
}
