// cfn-guard with the rules of AWS Control Tower over synthesized templates.
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const root = path.join(import.meta.dirname, 'node_modules/@cdklabs/cdk-validator-cfnguard');
const rules = path.join(root, 'rules/control-tower/cfn-guard');
const maxAnswer = 256 << 20;
// What it ends with when a template has a fault; anything else but 0 is its own.
const foundFaults = 19;

function program() {
  const platform = { linux: 'ubuntu', darwin: 'macos' }[os.platform()];
  const architecture = { x64: 'x86_64', arm64: 'aarch64' }[os.arch()];
  return path.join(root, 'bin', `${platform}`, `${architecture}`, 'cfn-guard');
}

// One run for each processor, as it uses one.
export async function guard(assemblies) {
  const stacks = assemblies.flatMap((a) => a.stacks);
  const shares = Array.from({ length: Math.min(os.availableParallelism(), stacks.length) }, () => []);
  stacks.forEach((s, i) => shares[i % shares.length].push(s));
  return (await Promise.all(shares.map(check))).flat();
}

async function check(stacks) {
  const data = stacks.flatMap((s) => ['--data', s.file]);
  const args = ['validate', '--rules', rules, ...data, '--output-format', 'json', '--show-summary', 'none', '--structured'];
  const { stdout, stderr } = await promisify(execFile)(program(), args, { maxBuffer: maxAnswer }).catch((e) => {
    if (e.code !== foundFaults) throw new Error(`cfn-guard ended with ${e.code}: ${e.stderr || e.message}`);
    return e;
  });
  if (stderr !== '') throw new Error(`cfn-guard: ${stderr}`);
  const answers = new Map(JSON.parse(stdout).map((a) => [path.resolve(a.name), a]));
  const written = fs.readdirSync(rules, { recursive: true }).filter((f) => f.endsWith('.guard')).length;
  return stacks.flatMap((stack) => {
    const answer = answers.get(path.resolve(stack.file));
    const count = ['compliant', 'not_applicable', 'not_compliant'].reduce((n, k) => n + (answer?.[k].length ?? 0), 0);
    if (count < written) throw new Error(`cfn-guard checked ${count} of ${written} rules on ${stack.file}`);
    return answer.not_compliant.flatMap(({ Rule: rule }) => {
      const ids = resources(rule);
      return (ids.size > 0 ? [...ids] : ['']).map((id) => ({ stack, id, rule: `cfn-guard::${rule.name}`, says: message(rule) }));
    });
  });
}

// resources are those that the failed checks of a rule are about.
function resources(checks, ids = new Set()) {
  if (checks === null || typeof checks !== 'object') return ids;
  for (const [key, value] of Object.entries(checks)) {
    const id = key === 'path' && /^\/Resources\/([^/]+)/.exec(value)?.[1];
    if (id) ids.add(id);
    // What is there is the template's own.
    else if (key !== 'value' || typeof value?.traversed_to === 'object') resources(value, ids);
  }
  return ids;
}

// message is what a rule says of its fault, deep in its checks.
function message(checks) {
  if (checks === null || typeof checks !== 'object') return '';
  if (checks.messages?.custom_message) return checks.messages.custom_message.trim().split(/\s*\n\s*/).join(' ');
  for (const value of Object.values(checks)) {
    const found = message(value);
    if (found) return found;
  }
  return '';
}
