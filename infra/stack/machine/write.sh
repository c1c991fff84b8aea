#!/bin/bash
# Writes what the machine is and how it boots, and boots it (oc-boot.service). This runs
# once; what can fail, and what a restart may cut short, is the unit's, which does it again.
set -euo pipefail
# BEGIN
chmod 0755 "$PROGRAMS"/oc-*
# On the disk before anything happens: a start that is cut short finds it.
sync
systemctl daemon-reload
systemctl enable --now --no-block oc-logs.timer oc-boot.service
