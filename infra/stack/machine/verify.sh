#!/bin/bash
# What a machine does that verifies a recovery point: it restores and checks all of it,
# records how that ended, sends its log, and ends itself, whatever happens.
set -euo pipefail
# BEGIN

# How long programs may take to come about.
PROGRAMS_SECONDS=${PROGRAMS_SECONDS:-600}
POLL_SECONDS=${POLL_SECONDS:-5}
LOG=${LOG:-/var/log/oc-verify.log}
# What of the log is sent: the last lines, in one request.
LOG_LINES=${LOG_LINES:-2000}

# What is said must not be what the machine stops at: its disk may be full.
say() { echo "originchain: $*" | tee -a "$LOG" >&2 || :; }

metadata() {
  local token
  token=$(curl -sSf --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token) &&
    curl -sSf --max-time 5 -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}

install_programs() {
  local work
  work=$(mktemp -d) &&
    aws s3 cp --region "$REGION" --only-show-errors "$BINARIES" "$work/programs.zip" &&
    python3 -m zipfile -e "$work/programs.zip" "$work/programs" &&
    install -m 0755 "$work"/programs/* "$PROGRAMS/" &&
    rm -rf "$work"
}

send_log() {
  local batch stream
  stream=$(metadata instance-id) && batch=$(mktemp) &&
    tail -n "$LOG_LINES" "$LOG" | python3 -c '
import json, sys, time
now, size, events = int(time.time() * 1000), 0, []
for line in reversed(sys.stdin.buffer.read().decode("utf-8", "replace").splitlines()):
    text = line.encode()[:10000].decode("utf-8", "ignore") or " "
    size += len(text.encode()) + 26
    if size > 1000000:
        break
    events.append({"timestamp": now, "message": text})
json.dump({"logStreamName": sys.argv[1], "logEvents": events[::-1]}, sys.stdout)
' "$stream" >"$batch" &&
    aws logs create-log-stream --region "$REGION" --log-group-name "$LOG_GROUP" --log-stream-name "$stream" &&
    aws logs put-log-events --region "$REGION" --log-group-name "$LOG_GROUP" --cli-input-json "file://$batch" >/dev/null
}

# Ends the machine, and with it all that was restored onto it, whatever of this fails. A full
# disk is how a restore that is too large ends: what it restored goes first, so that there is
# room for its log.
finish() {
  local status=$?
  trap - EXIT
  set +e
  rm -rf "$SCRATCH" "$SCRATCH.restoring"
  say "the verification ended with the exit code $status"
  send_log || say "the log could not be sent"
  shutdown -h now
}
trap finish EXIT
# Should this script hang, or be killed, the machine ends all the same.
shutdown -h "+$((LIMIT_SECONDS / 60 + 20))"

mkdir -p "$PROGRAMS" "$SCRATCH"
end=$((SECONDS + PROGRAMS_SECONDS))
until install_programs; do
  ((SECONDS < end)) || { say "the programs of $BINARIES did not come about within $PROGRAMS_SECONDS s"; exit 1; }
  sleep "$POLL_SECONDS"
done
chosen=()
[[ $CROSS_REGION != true ]] || chosen=(--allow-cross-region)
# It is asked to end, and so records that it was broken off; a minute later it is made to.
timeout --signal=TERM --kill-after=60 "$LIMIT_SECONDS" "$PROGRAMS/oc-pitr" verify --archive "$ARCHIVE" --instance-id "$INSTANCE_ID" \
  --mode full --data-dir "$SCRATCH" --record "$RECORD" --json "${chosen[@]}" >>"$LOG" 2>&1
say "the newest recovery point is well"
