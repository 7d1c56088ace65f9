#!/bin/sh
# Installs the unpacked archive on a host without a package manager for it, or takes it away again.
#
#   ./install.sh             install or upgrade; a config that is there is kept
#   ./install.sh --remove    stop and remove; config and state stay
#   ./install.sh --purge     config, state and user as well
#
# DESTDIR installs into another root, without user and service.
set -eu
cd "$(dirname "$0")"
root=${DESTDIR:-}
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

[ "$(id -u)" = 0 ] || { echo "run it as root" >&2; exit 1; }
case "${1:-}" in
  "") ;;
  --remove | --purge)
    [ -n "$root" ] || scripts/preremove remove
    rm -f "$root/usr/local/bin/phoenix" "$root/etc/systemd/system/phoenix.service" "$root"/usr/local/share/man/man1/phoenix*.1.gz \
      "$root/usr/local/share/bash-completion/completions/phoenix" "$root/usr/local/share/zsh/site-functions/_phoenix" \
      "$root/usr/local/share/fish/vendor_completions.d/phoenix.fish"
    if [ -z "$root" ]; then
      scripts/postremove "${1#--}"
    fi
    exit 0
    ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

[ -n "$root" ] || scripts/preinstall
mkdir -p "$root/usr/local/bin" "$root/etc/phoenix" "$root/etc/systemd/system" "$root/usr/local/share/man/man1" \
  "$root/usr/local/share/bash-completion/completions" "$root/usr/local/share/zsh/site-functions" \
  "$root/usr/local/share/fish/vendor_completions.d"
# A running binary cannot be written to; it can be replaced.
cp phoenix "$root/usr/local/bin/phoenix.new"
chmod 0755 "$root/usr/local/bin/phoenix.new"
mv "$root/usr/local/bin/phoenix.new" "$root/usr/local/bin/phoenix"
cp man/*.1.gz "$root/usr/local/share/man/man1/"
cp completions/phoenix.bash "$root/usr/local/share/bash-completion/completions/phoenix"
cp completions/_phoenix "$root/usr/local/share/zsh/site-functions/_phoenix"
cp completions/phoenix.fish "$root/usr/local/share/fish/vendor_completions.d/phoenix.fish"
sed 's|/usr/bin/phoenix|/usr/local/bin/phoenix|' phoenix.service > "$root/etc/systemd/system/phoenix.service"
keep() {
  if [ -e "$root/etc/phoenix/$1" ]; then
    cmp -s "$1" "$root/etc/phoenix/$1" || { cp "$1" "$root/etc/phoenix/$1.new"; chmod "$2" "$root/etc/phoenix/$1.new"; }
  else
    cp "$1" "$root/etc/phoenix/$1"
    chmod "$2" "$root/etc/phoenix/$1"
  fi
}
keep config.yaml 0640
keep phoenix.env 0600
if [ -z "$root" ]; then
  chgrp phoenix /etc/phoenix/config.yaml
  if live; then
    systemctl daemon-reload
    systemctl enable --quiet phoenix.service
    systemctl restart phoenix.service
  fi
fi
echo "phoenix is installed; its config is $root/etc/phoenix/config.yaml"
