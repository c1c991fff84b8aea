#!/bin/bash
# Puts the secrets of this machine's node where its server reads them: in memory, for
# the server alone, each file whole.
set -euo pipefail
umask 077

# Four requests at most, which end before systemd ends this.
export AWS_MAX_ATTEMPTS=2
secret() { aws --cli-connect-timeout 3 --cli-read-timeout 8 secretsmanager get-secret-value --region "$REGION" --secret-id "$1" --query SecretString --output text; }

# The directory is root's, so that the server cannot make there what is missing.
install -d -m 0750 -o root -g "$SERVER_USER" "$SECRETS_DIR"
# What a run that was cut short has left is secret too.
rm -rf "$SECRETS_DIR"/.new-*
work=$(mktemp -d "$SECRETS_DIR/.new-XXXXXX")
trap 'rm -rf "$work"' EXIT

if ! secret "$ADMIN_SECRET" >"$work/admin.token"; then
  echo "the admin token cannot be read: see to the secret $ADMIN_SECRET and the permissions of the machine's role" >&2
  exit 1
fi
if ! secret "$CERTIFICATES_SECRET" >"$work/.certificates"; then
  echo "the certificates cannot be read: put them into the secret $CERTIFICATES_SECRET" >&2
  exit 1
fi
python3 - "$work" <<'END_OF_PYTHON'
import json, os, sys
names = ["ca.crt", "node.crt", "node.key", "server.crt", "server.key"]
try:
    with open(os.path.join(sys.argv[1], ".certificates")) as f:
        given = json.load(f)
    missing = [n for n in names if not isinstance(given.get(n), str) or not given[n].strip()]
except (ValueError, AttributeError):
    sys.exit("the secret of certificates is not a JSON object; it has the keys " + ", ".join(names))
if missing:
    sys.exit("the secret of certificates lacks " + ", ".join(missing))
for n in names:
    with open(os.path.join(sys.argv[1], n), "w") as f:
        f.write(given[n].rstrip("\n") + "\n")
END_OF_PYTHON
for name in ca.crt node.crt node.key server.crt server.key admin.token; do
  chown "$SERVER_USER:$SERVER_USER" "$work/$name"
  chmod 0400 "$work/$name"
  mv -f "$work/$name" "$SECRETS_DIR/$name"
done
