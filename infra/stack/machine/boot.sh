#!/bin/bash
# What a machine does when it starts for the first time: it takes over the volumes and
# the interface of its node, and starts its services. Each step can be done again.
set -euo pipefail
# BEGIN

# How long another machine of the node may take to let go of volumes and interface.
TAKE_OVER_SECONDS=${TAKE_OVER_SECONDS:-1800}
PROGRAMS_SECONDS=${PROGRAMS_SECONDS:-600}
POLL_SECONDS=${POLL_SECONDS:-5}

say() { echo "originchain: $*" >&2; }

fail() {
  say "$*; the machine serves nothing. Its log is /var/log/cloud-init-output.log; terminate it to have another start"
  exit 1
}

# within SECONDS WHAT COMMAND...: until the command succeeds, and no longer.
within() {
  local seconds=$1 what=$2 end
  shift 2
  end=$((SECONDS + seconds))
  until "$@"; do
    ((SECONDS < end)) || fail "$what did not come about within $seconds s"
    sleep "$POLL_SECONDS"
  done
}

metadata() {
  local token
  token=$(curl -sSf --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token) &&
    curl -sSf --max-time 5 -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}

# The link of a volume among the machine's devices.
device() { echo "${DEVICES:-/dev/disk/by-id}/nvme-Amazon_Elastic_Block_Store_${1/-/}"; }

# attach VOLUME NAME: refused for as long as another machine has the volume.
attach_volume() {
  [[ -e $(device "$1") ]] || aws ec2 attach-volume --region "$REGION" --volume-id "$1" --instance-id "$MACHINE" --device "$2" >/dev/null || return 1
  [[ -e $(device "$1") ]]
}

has_address() { ip -o -4 address show | grep -qF " $ADDRESS/"; }

attach_interface() {
  has_address || aws ec2 attach-network-interface --region "$REGION" --network-interface-id "$INTERFACE" --instance-id "$MACHINE" --device-index 1 >/dev/null || return 1
  within 60 "the address $ADDRESS" has_address
}

# filesystem VOLUME LABEL: makes one where there is nothing at all, and never where
# something is. A volume with another label is not the one meant.
filesystem() {
  local dev found status=0
  dev=$(device "$1")
  found=$(blkid -p -o value -s LABEL "$dev") || status=$?
  if ((status == 2)); then
    cmp -s -n 1048576 "$dev" /dev/zero || fail "volume $1 has no file system and is not empty: find out what is on it"
    mkfs.xfs -q -L "$2" "$dev"
  elif ((status != 0)); then
    fail "volume $1 cannot be read (blkid: $status)"
  elif [[ $found != "$2" ]]; then
    fail "volume $1 has the label '$found', not $2: volumes are mixed up"
  fi
}

# mounted VOLUME DIRECTORY: now and at each start. The server's unit requires it.
mounted() {
  mkdir -p "$2"
  grep -qF " $2 " "$FSTAB" || echo "$(device "$1") $2 xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2" >>"$FSTAB"
  mountpoint -q "$2" || mount "$2"
}

install_programs() {
  local work
  work=$(mktemp -d) &&
    aws s3 cp --region "$REGION" --only-show-errors "$BINARIES" "$work/programs.zip" &&
    python3 -m zipfile -e "$work/programs.zip" "$work/programs" &&
    install -m 0755 "$work"/programs/* "$PROGRAMS/" &&
    rm -rf "$work"
}

FSTAB=${FSTAB:-/etc/fstab}
MACHINE=$(metadata instance-id) || fail "the machine's metadata cannot be read"
id -u "$SERVER_USER" >/dev/null 2>&1 || useradd --system --uid "$SERVER_UID" --user-group --no-create-home --shell /sbin/nologin "$SERVER_USER"
within "$TAKE_OVER_SECONDS" "the state volume $STATE_VOLUME" attach_volume "$STATE_VOLUME" /dev/sdf
within "$TAKE_OVER_SECONDS" "the log volume $LOG_VOLUME" attach_volume "$LOG_VOLUME" /dev/sdg
within "$TAKE_OVER_SECONDS" "the interface $INTERFACE" attach_interface
filesystem "$STATE_VOLUME" oc-state
filesystem "$LOG_VOLUME" oc-log
mounted "$STATE_VOLUME" "$DATA_DIR"
mounted "$LOG_VOLUME" "$LOG_DIR"
chown "$SERVER_USER:$SERVER_USER" "$DATA_DIR" "$LOG_DIR"
chmod 0700 "$DATA_DIR" "$LOG_DIR"
within "$PROGRAMS_SECONDS" "the programs of $BINARIES" install_programs
mkdir -p "$SETTINGS"
printf '%s\n' "REGION=$REGION" "ADMIN_SECRET=$ADMIN_SECRET" "CERTIFICATES_SECRET=$CERTIFICATES_SECRET" "SECRETS_DIR=$SECRETS_DIR" "SERVER_USER=$SERVER_USER" \
  "LOG_GROUP=$LOG_GROUP" "LOGS_STATE=$LOGS_STATE" "STREAM=$MACHINE" >"$SETTINGS/machine.env"
systemctl daemon-reload
systemctl enable --now --no-block oc-secrets.timer oc-logs.timer oc-http.service oc-node.service
say "node started on $MACHINE with the address $ADDRESS"
