// The checks fail where they should: testdata/bad has a bucket that is not encrypted, a
// rule that cannot be applied, state machines that lead nowhere and that call nobody,
// statements that no excuse names, in a policy and in a role, and every excuse that is none; testdata/good has what
// stacks import of one another.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { judge } from './excuses.mjs';
import { lint } from './lint.mjs';
import { faults } from './machines.mjs';

const here = import.meta.dirname;

test('what is bad is found', async () => {
  const { errors } = await lint([path.join(here, 'testdata/bad')]);
  const got = errors.map((e) => `${e.kind}: ${e.rule} ${e.path}` + (e.sids ? `: ${e.sids.map(String)}` : ''));
  const want = [
    'finding: cfn-guard::s3_bucket_default_encryption_kms_check /Plain/Bucket/Resource',
    'finding: cdk-nag::S3DefaultEncryptionKMS /Plain/Bucket/Resource',
    'finding: cdk-nag::S3BucketLoggingEnabled /Plain/Bucket/Resource',
    'finding: cdk-nag::StepFunctionStateMachineXray /Plain/Machine/Resource',
    'finding: cdk-nag::EC2RestrictedSSH[error] /Plain/Port/Resource',
    'finding: asl-validator /Plain/Machine/Resource',
    'gives no reason: cdk-nag::S3BucketVersioningEnabled /Plain/Bucket',
    'excuses nothing: cdk-nag::LambdaTracing /Plain/Bucket',
    'excuses nothing: cdk-nag::S3BucketLoggingEnabled /Plain/Buck',
    'no such form of a rule: S3BucketLoggingEnabled /Plain/Bucket',
    'no such form of a rule: asl-validator /Plain/Machine',
    'finding: asl-validator /Plain/Unfilled/Resource',
    'no excuse names the statement: cdk-nag::IAMNoWildcardPermissions[Resource::*] /Plain/Policy/Resource: Later,null',
    'no excuse names the statement: cdk-nag::IAMNoWildcardPermissions[Resource::arn:aws:s3:::b/*] /Plain/Policy/Resource: Objects',
    'no excuse names the statement: cdk-nag::IAMNoWildcardPermissions[Resource::*] /Plain/Role/Resource: Inline',
    'names no such statement: cdk-nag::IAMNoWildcardPermissions[Resource::arn:aws:sqs:eu-central-1:111122223333:q-*] /Plain/Policy: Denied,Gone',
  ];
  assert.deepEqual(want.filter((w) => !got.includes(w)), []);
  assert.ok(!got.some((g) => g.includes('S3BucketReplicationEnabled')), 'what is excused is not');
  const bucket = errors.find((e) => e.rule === 'cdk-nag::S3DefaultEncryptionKMS');
  for (const pack of ['HIPAA.Security', 'NIST.800.53.R5', 'PCI.DSS.321']) assert.match(bucket.says, new RegExp(`${pack}-S3DefaultEncryptionKMS`));
  const all = errors.map((e) => e.says).join(' ');
  for (const pack of ['AwsSolutions', 'HIPAA.Security', 'NIST.800.53.R4', 'NIST.800.53.R5', 'PCI.DSS.321', 'Serverless']) assert.ok(all.includes(`${pack}-`), `${pack} was not applied`);
});

test('what is good is not, with what it imports', async () => {
  const { errors, summary } = await lint([path.join(here, 'testdata/good')]);
  assert.deepEqual(errors, []);
  assert.equal(summary, '2 templates: 0 errors, 1 findings excused by a reason');
});

for (const [what, sids] of [['none is found', []], ['none is looked for', undefined], ['one without a name is', [null]]]) {
  test(`a wildcard is not excused where of its statements ${what}`, () => {
    const rule = 'cdk-nag::IAMNoWildcardPermissions[Resource::*]';
    const stack = { assembly: 'one', name: 'Plain', paths: new Map([['Role', '/Plain/Role/Resource']]), excuses: [{ path: '/Plain/Role', rule, reason: 'A reason that is long enough for one', sids: [], used: 0, there: new Set() }] };
    const { errors } = judge([{ stacks: [stack] }], [{ stack, id: 'Role', rule, says: 'x', sids }]);
    assert.deepEqual(errors.map((e) => `${e.kind}: ${e.path}`), ['no excuse names the statement: /Plain/Role/Resource']);
  });
}

const text = fs.readFileSync(path.join(here, '../statemachine/testdata/failover.asl.json'), 'utf8').replaceAll(/\$\{(\w+)\}/g, 'arn:aws:lambda:eu-central-1:111122223333:function:$1');

test('the failover is a state machine', () => assert.deepEqual(faults(text), []));

for (const [name, from, to] of [
  ['leads nowhere', '"Next": "Fence"', '"Next": "Fance"'],
  ['has a state of no type', '"Type": "Choice"', '"Type": "Choose"'],
  ['has a path that is none', '"SecondsPath": "$.confirm.after_seconds"', '"SecondsPath": "$.confirm..["'],
  ['waits for two things', '"SecondsPath"', '"Seconds": 1, "SecondsPath"'],
  ['calls what is no resource', 'arn:aws:states:::lambda:invoke', 'lambda:invoke'],
  ['calls nobody', 'arn:aws:lambda:eu-central-1:111122223333:function:Silence', '${Silence}'],
  ['is no JSON', '{', '('],
]) {
  test(`a state machine that ${name} is refused`, () => {
    assert.ok(text.includes(from));
    assert.notDeepEqual(faults(text.replace(from, to)), []);
  });
}
