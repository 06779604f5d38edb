#!/bin/sh
# Installs syncd on this machine, or into DESTDIR for packagers, and removes it again.
#
#   sudo make install     the program to /opt/syncd, the files of files.txt and the command below PREFIX (/usr/local)
#   sudo make uninstall   takes all of that away; configuration, secrets, state and the user stay
#
# PYTHON names the interpreter (3.11 or newer); it must not be in a home directory, which the service cannot see.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
program=/opt/syncd
target=$DESTDIR$program

fail() {
  echo "$1" >&2
  exit 1
}

# Calls "$1" with each file's source and its place.
each_file() {
  while read -r source place; do
    case $source in '' | '#'*) continue ;; esac
    "$1" "$here/$source" "$DESTDIR$PREFIX/$place"
  done <"$here/deploy/install/files.txt"
}

# Whether this is the running system, rather than a folder that becomes a package.
is_live() { [ -z "$DESTDIR" ]; }

require_root() {
  ! is_live || [ "$(id -u)" = 0 ] || fail "This writes to $program and $PREFIX: run it with sudo. Nothing was done."
}

# What an environment of Python consists of, and so all that this script puts there, replaces and takes away.
parts="bin include lib lib64 share pyvenv.cfg .gitignore"

others_in_target() {
  for found in "$target"/* "$target"/.[!.]*; do
    case " $parts " in *" ${found##*/} "*) continue ;; esac
    [ ! -e "$found" ] || echo "$found"
  done
}

# Two installations would share the program, and each would break the other when it goes.
require_same_prefix() {
  for other in /usr /usr/local; do
    [ "$other" = "$PREFIX" ] || [ "$(readlink "$DESTDIR$other/bin/syncd" || true)" != "$program/bin/syncd" ] ||
      fail "syncd is installed below $other: name that with PREFIX=$other, or remove the package syncd first. Nothing was done."
  done
}

# Files that somebody keeps in the program's folder, and another program of the same name, are not ours to replace.
require_free_places() {
  if [ -e "$target" ] && [ ! -e "$target/pyvenv.cfg" ]; then
    fail "$target is there already and is not an installation of syncd: move it to another place. Nothing was done."
  fi
  others=$(others_in_target)
  [ -z "$others" ] || fail "$target holds files that are not the program's; move them to another place. Nothing was done.
$others"
  command=$DESTDIR$PREFIX/bin/syncd
  if [ -e "$command" ] || [ -L "$command" ]; then
    [ "$(readlink "$command" || true)" = "$program/bin/syncd" ] ||
      fail "$command is there already and belongs to another installation: remove that one first. Nothing was done."
  fi
}

choose_python() {
  if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if /usr/bin/python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=/usr/bin/python3
    fi
  fi
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "syncd needs Python 3.11 or newer; name one with: make install PYTHON=/usr/bin/python3.12. Nothing was done."
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$PYTHON lacks venv (on Debian and Ubuntu: apt install python3-venv). Nothing was done."
  case $("$PYTHON" -c 'import sys; print(sys.base_prefix)') in
    /home/* | /root/*)
      fail "$PYTHON is in a home directory, which the service cannot see; name another: make install PYTHON=/usr/bin/python3. Nothing was done."
      ;;
  esac
}

# Makes the virtual environment beside its place, and then puts it there: what is installed stays until all went well.
install_program() {
  made=$target.new
  tools=$target.tools
  # shellcheck disable=SC2064 - the names as they are now
  trap "rm -rf '$made' '$tools'" EXIT
  rm -rf "$made" "$tools"
  mkdir -p "$made"
  "$PYTHON" -m venv "$made"
  pip() { "$made/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
  pip install --no-compile --require-hashes --target "$tools" -r "$here/requirements/build.txt" &
  pip install --no-compile --require-hashes -r "$here/requirements/run.txt"
  wait $! || fail "The packages that build syncd could not be installed. Nothing was done."
  PYTHONPATH=$tools pip wheel --no-deps --no-build-isolation --wheel-dir "$tools/wheel" "$here"
  pip install --no-compile --no-deps "$tools"/wheel/syncd-*.whl
  pip uninstall --yes pip setuptools 2>/dev/null
  # The scripts and compiled files name the place they were made in.
  grep -lIrF "$made" "$made/bin" "$made/pyvenv.cfg" | xargs sed -i "s|$made|$program|g"
  "$made/bin/python" -m compileall -q -j 0 -s "$made" -p "$program" "$made/lib" >/dev/null || true
  rm -rf "$target.old"
  [ ! -e "$target" ] || mv "$target" "$target.old"
  mv "$made" "$target"
  rm -rf "$target.old"
}

put() { install -D -m 0644 "$1" "$2"; }

# The folders that a file leaves empty go with it, but for those that every system has.
take_away() {
  rm -f "$2"
  folder=$(dirname "$2")
  while :; do
    case ${folder#"$DESTDIR$PREFIX"} in '' | /lib | /share | /share/doc | /share/man | /share/man/man1) break ;; esac
    rmdir "$folder" 2>/dev/null || break
    folder=$(dirname "$folder")
  done
}

# What a package's scripts do at its installation, too.
set_up() {
  for tool in systemd-sysusers systemd-tmpfiles; do
    command -v "$tool" >/dev/null || fail "$tool is missing: make the user syncd, /etc/syncd and /var/lib/syncd by hand."
  done
  systemd-sysusers "$PREFIX/lib/sysusers.d/syncd.conf"
  systemd-tmpfiles --create "$PREFIX/lib/tmpfiles.d/syncd.conf"
  if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart syncd.service 'syncd@*.service'
  fi
}

stop_services() {
  [ -d /run/systemd/system ] || return 0
  systemctl list-units --all --plain --no-legend 'syncd.service' 'syncd@*.service' 'syncd-reconcile@*' |
    while read -r unit _; do systemctl disable --now "$unit" 2>/dev/null || systemctl stop "$unit"; done
}

case ${1:-} in
  install)
    require_root
    require_same_prefix
    require_free_places
    choose_python
    install_program
    each_file put
    mkdir -p "$DESTDIR$PREFIX/bin"
    ln -sfn "$program/bin/syncd" "$DESTDIR$PREFIX/bin/syncd"
    if is_live; then
      set_up
      echo "Installed $("$program/bin/syncd" --version) in $program; the command is $PREFIX/bin/syncd."
      [ -e /etc/syncd/syncd.toml ] || echo "Next: sudo syncd --config /etc/syncd/syncd.toml init"
    fi
    ;;
  uninstall)
    require_root
    require_same_prefix
    ! is_live || stop_services
    [ "$(readlink "$DESTDIR$PREFIX/bin/syncd" || true)" != "$program/bin/syncd" ] || rm -f "$DESTDIR$PREFIX/bin/syncd"
    each_file take_away
    if [ -e "$target/pyvenv.cfg" ]; then
      for part in $parts; do rm -rf "${target:?}/$part"; done
      rmdir "$target" 2>/dev/null || echo "$target stays, since it holds files that are not the program's."
    fi
    if is_live; then
      [ ! -d /run/systemd/system ] || systemctl daemon-reload
      echo "Took syncd away. What stays: /etc/syncd, /var/lib/syncd and the user syncd."
    fi
    ;;
  *) fail "Usage: install.sh install|uninstall" ;;
esac
