// The packs of cdk-nag over synthesized templates. A rule has one name, that of its
// function, in whichever packs it is: an excuse excuses it in all of them.
import { App, Stack } from 'aws-cdk-lib';
import { CfnInclude } from 'aws-cdk-lib/cloudformation-include';
import { CfnPolicy } from 'aws-cdk-lib/aws-iam';
import { AwsSolutionsChecks, HIPAASecurityChecks, NIST80053R4Checks, NIST80053R5Checks, PCIDSS321Checks, rules, ServerlessChecks } from 'cdk-nag';

const packs = [AwsSolutionsChecks, HIPAASecurityChecks, NIST80053R4Checks, NIST80053R5Checks, PCIDSS321Checks, ServerlessChecks];

// Where a logical id is in a finding, it is without its hash, as code would name it.
const unhashed = (text) => text.replace(/<([A-Za-z0-9]+?)[0-9A-F]{8}(?=[.>])/g, '<$1');

// sids are those of the statements of a resource that have a finding about wildcards: null of
// one that has no Sid. The rule itself is asked of each statement alone.
function sids(resource, finding) {
  const { PolicyDocument, Policies = [] } = resource.Properties;
  const scope = new Stack();
  return [PolicyDocument, ...Policies.map((p) => p.PolicyDocument)]
    .flatMap((document) => document?.Statement ?? [])
    .filter((statement, i) => {
      const found = rules.iam.IAMNoWildcardPermissions(new CfnPolicy(scope, `${i}`, { policyName: 'one', policyDocument: { Statement: [statement] } }));
      return Array.isArray(found) && found.includes(finding.slice(1, -1));
    })
    .map((statement) => statement.Sid ?? null);
}

export function nag(assembly) {
  const app = new App({ analyticsReporting: false, outdir: undefined });
  const stacks = new Map();
  for (const stack of assembly.stacks) {
    const scope = new Stack(app, stack.name, { env: { account: stack.account, region: stack.region } });
    new CfnInclude(scope, 'Template', { templateFile: stack.file });
    stacks.set(scope, stack);
  }
  const found = new Map();
  for (const Pack of packs) {
    const pack = new Pack();
    // The report of a pack has no more than its own name of a rule.
    pack.addViolation = (ruleId, { rule, node, info }, thrown) => {
      const stack = stacks.get(Stack.of(node));
      const id = stack && Stack.of(node).resolve(node.logicalId);
      const finding = thrown === undefined ? (/\[.*\]$/s.exec(ruleId)?.[0] ?? '') : '[error]';
      const name = `cdk-nag::${rule.name}${unhashed(finding)}`;
      const key = JSON.stringify([stack.name, id, name]);
      const f = found.get(key) ?? { stack, id, rule: name, says: info, in: [] };
      if (rule === rules.iam.IAMNoWildcardPermissions && thrown === undefined) f.sids ??= sids(stack.template.Resources[id], finding);
      if (thrown !== undefined) f.says = `the rule could not be applied: ${thrown}`;
      f.in.push(ruleId.replace(/\[.*\]$/s, ''));
      found.set(key, f);
    };
    pack.validateScope(app);
  }
  return [...found.values()].map((f) => ({ ...f, says: `${f.says} (${f.in.join(', ')})` }));
}
