#!/bin/bash
# What a machine does when it starts: it takes over the volumes and the interface of its
# node, and starts its services. Each step can be done again, and all of it is at each
# start, until it has ended well.
set -euo pipefail

# How long another machine of the node may take to let go of volumes and interface.
TAKE_OVER_SECONDS=${TAKE_OVER_SECONDS:-1800}
PROGRAMS_SECONDS=${PROGRAMS_SECONDS:-600}
METADATA_SECONDS=${METADATA_SECONDS:-120}
POLL_SECONDS=${POLL_SECONDS:-5}
# The label of a file system that is being made. What has it was never mounted.
UNFINISHED=oc-making

said=''
say() { echo "originchain: $*" >&2; }

fail() {
  said=1
  say "$*; the machine serves nothing, and tries again until it does"
  exit 1
}

# Whatever else fails ends the script, and says what it was.
trap 'status=$?; ((status == 0)) || [[ $said ]] || say "$BASH_COMMAND: failed ($status); the machine serves nothing, and tries again until it does"' EXIT

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

which_machine() { MACHINE=$(metadata instance-id) && [[ $MACHINE ]]; }

# The link of a volume among the machine's devices.
device() { echo "${DEVICES:-/dev/disk/by-id}/nvme-Amazon_Elastic_Block_Store_${1/-/}"; }

# attach VOLUME NAME: refused for as long as another machine has the volume.
attach_volume() {
  [[ -e $(device "$1") ]] || aws ec2 attach-volume --region "$REGION" --volume-id "$1" --instance-id "$MACHINE" --device "$2" >/dev/null || return 1
  [[ -e $(device "$1") ]]
}

has_address() { ip -o -4 address show | grep -qF " $ADDRESS/"; }

# An interface that is attached has its address a little later.
attach_interface() {
  has_address || aws ec2 attach-network-interface --region "$REGION" --network-interface-id "$INTERFACE" --instance-id "$MACHINE" --device-index 1 >/dev/null || return 1
  has_address
}

# filesystem VOLUME LABEL: makes one where there is nothing at all, or one that was not
# made to the end, and never where something is. A volume with another label is not the
# one meant. The label comes last, so that what has it is whole.
filesystem() {
  local dev found status=0
  dev=$(device "$1")
  found=$(blkid -p -o value -s LABEL "$dev") || status=$?
  if ((status == 2)); then
    cmp -s -n 1048576 "$dev" /dev/zero || fail "volume $1 has no file system and is not empty: find out what is on it"
    mkfs.xfs -q -L "$UNFINISHED" "$dev"
  elif ((status != 0)); then
    fail "volume $1 cannot be read (blkid: $status)"
  elif [[ $found == "$UNFINISHED" ]]; then
    mkfs.xfs -q -f -L "$UNFINISHED" "$dev"
  elif [[ $found != "$2" ]]; then
    fail "volume $1 has the label '$found', not $2: volumes are mixed up"
  else
    return 0
  fi
  xfs_admin -L "$2" "$dev" >/dev/null
  # It ends with 0 where it could not write, too.
  [[ $(blkid -p -o value -s LABEL "$dev") == "$2" ]] || fail "volume $1 did not take the label $2"
}

# mounted VOLUME DIRECTORY: now and at each start. The server's unit requires it. A volume
# that was made larger is used in full; where that fails, the node serves with what it had.
mounted() {
  mkdir -p "$2"
  grep -qF " $2 " "$FSTAB" || echo "$(device "$1") $2 xfs noatime,nodev,nosuid,noexec,nofail,x-systemd.device-timeout=600s 0 2" >>"$FSTAB"
  mountpoint -q "$2" || mount "$2"
  xfs_growfs -d "$2" >/dev/null || say "the file system of volume $1 did not grow ($?): what the volume has more is not used"
}

# What is noted last says that all of it is there: a start later on needs no bucket. It is
# unpacked on the disk, as /tmp is memory; what an attempt leaves that was cut short goes.
install_programs() {
  local work=$PROGRAMS/.new status=0
  rm -rf "$work"
  [[ ! -f $PROGRAMS/.installed || $(cat "$PROGRAMS/.installed") != "$BINARIES" ]] || return 0
  mkdir "$work" &&
    aws s3 cp --region "$REGION" --only-show-errors "$BINARIES" "$work/programs.zip" &&
    python3 -m zipfile -e "$work/programs.zip" "$work/programs" &&
    install -m 0755 "$work"/programs/* "$PROGRAMS/" &&
    sync && echo "$BINARIES" >"$PROGRAMS/.installed" || status=$?
  rm -rf "$work"
  return "$status"
}

FSTAB=${FSTAB:-/etc/fstab}
within "$METADATA_SECONDS" "the machine's metadata" which_machine
# The group has its number told: one that is chosen differs from machine to machine.
id -u "$SERVER_USER" >/dev/null 2>&1 || {
  getent group "$SERVER_USER" >/dev/null || groupadd --system --gid "$SERVER_UID" "$SERVER_USER"
  useradd --system --uid "$SERVER_UID" --gid "$SERVER_USER" --no-create-home --shell /sbin/nologin "$SERVER_USER"
}
within "$TAKE_OVER_SECONDS" "the state volume $STATE_VOLUME" attach_volume "$STATE_VOLUME" /dev/sdf
within "$TAKE_OVER_SECONDS" "the log volume $LOG_VOLUME" attach_volume "$LOG_VOLUME" /dev/sdg
within "$TAKE_OVER_SECONDS" "the interface $INTERFACE with the address $ADDRESS" attach_interface
filesystem "$STATE_VOLUME" oc-state
filesystem "$LOG_VOLUME" oc-log
mounted "$STATE_VOLUME" "$DATA_DIR"
mounted "$LOG_VOLUME" "$LOG_DIR"
chown "$SERVER_USER:$SERVER_USER" "$DATA_DIR" "$LOG_DIR"
chmod 0700 "$DATA_DIR" "$LOG_DIR"
within "$PROGRAMS_SECONDS" "the programs of $BINARIES" install_programs
systemctl daemon-reload
systemctl enable --now --no-block oc-secrets.timer oc-http.service oc-node.service
say "node started on $MACHINE with the address $ADDRESS"
