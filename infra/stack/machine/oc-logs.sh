#!/bin/bash
# Sends what the journal has of this node's services since the last time to the group of
# logs. It notes how far it came only after that, so that nothing is left out; after a
# failure a part can come twice.
set -euo pipefail
umask 077

# One request may have this many events, and a run that many requests: what is more
# waits for the next one.
BATCH_EVENTS=${BATCH_EVENTS:-1000}
BATCHES=${BATCHES:-20}
CURSOR=$LOGS_STATE/cursor

# The machine has its name from EC2 before anything else of it can fail.
STREAM=${STREAM:-$(cat /var/lib/cloud/data/instance-id)}

mkdir -p "$LOGS_STATE"
rm -rf "$LOGS_STATE"/.new-*
work=$(mktemp -d "$LOGS_STATE/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT
from=(--boot)
[[ ! -s $CURSOR ]] || from=(--after-cursor="$(cat "$CURSOR")")

# A reader that has enough closes the pipe, which journalctl dies of.
# Without --all it gives no text that is longer than 4 KiB.
{ journalctl --quiet --no-pager --all --output=json "${from[@]}" --unit=oc-boot.service --unit=oc-http.service --unit=oc-node.service --unit=oc-secrets.service --unit=cloud-final.service ||
  echo "$?" >"$work/failed"; } | python3 -c '
import json, os, sys
work, stream, events, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
most, span, number, batch, size, cursor = 200000, 23 * 3600 * 1000, 0, [], 0, ""
def plain(m):
    if not isinstance(m, list):
        return m or ""
    if all(isinstance(b, int) for b in m):  # bytes that are no text come as numbers
        return bytes(m).decode("utf-8", "replace")
    return "\n".join(plain(e) for e in m)  # an entry may have several
def end():
    global number, batch, size
    if batch:
        with open(os.path.join(work, "batch-%04d" % number), "w") as f:
            json.dump({"logStreamName": stream, "logEvents": batch}, f)
        with open(os.path.join(work, "cursor-%04d" % number), "w") as f:
            f.write(cursor)
        number, batch, size = number + 1, [], 0
for line in sys.stdin:
    entry = json.loads(line)
    text = (plain(entry.get("MESSAGE")) or " ").encode()[:most].decode("utf-8", "ignore")
    at = int(entry["__REALTIME_TIMESTAMP"]) // 1000
    # A request is taken in the order of time alone, and of less than a day: clocks are set.
    apart = batch and (at < batch[-1]["timestamp"] or at - batch[0]["timestamp"] >= span)
    if apart or len(batch) == events or size + len(text.encode()) + 26 > 1000000:
        end()
        if number == batches:
            break
    batch.append({"timestamp": at, "message": text})
    size, cursor = size + len(text.encode()) + 26, entry["__CURSOR"]
else:
    end()
' "$work" "$STREAM" "$BATCH_EVENTS" "$BATCHES"

shopt -s nullglob
batches=("$work"/batch-*)
if ((${#batches[@]} == 0)); then
  [[ ! -e $work/failed ]] || { echo "the journal cannot be read (journalctl: $(cat "$work/failed"))" >&2; exit 1; }
  exit 0
fi
# The stream of this machine; it may be there from a start that was cut short.
make_stream() {
  aws logs create-log-stream --region "$REGION" --log-group-name "$LOG_GROUP" --log-stream-name "$STREAM" 2>"$work/refused" ||
    grep -q ResourceAlreadyExistsException "$work/refused" || { cat "$work/refused" >&2; exit 1; }
}
put() { aws logs put-log-events --region "$REGION" --log-group-name "$LOG_GROUP" --cli-input-json "file://$1" >/dev/null 2>"$work/refused"; }

[[ -s $CURSOR ]] || make_stream
for batch in "${batches[@]}"; do
  # A stream that was deleted, or its group, which was made again, is made anew.
  put "$batch" || { grep -q ResourceNotFoundException "$work/refused" && make_stream && put "$batch"; } || { cat "$work/refused" >&2; exit 1; }
  mv -f "${batch/batch-/cursor-}" "$CURSOR"
done
