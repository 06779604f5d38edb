#!/bin/sh
# Makes a package for Debian and Ubuntu in DIST (dist/): what `make install` installs, below /usr.
#
# It brings its own packages, as wheels are made for one minor version of Python: that of the machine it is made on.
set -eu
umask 022
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dist=${DIST:-$here/dist}
command -v dpkg-deb >/dev/null || { echo "dpkg-deb is missing: apt install dpkg. Nothing was made." >&2; exit 1; }

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
DESTDIR=$tree PREFIX=/usr "$here/deploy/install/install.sh" install
python=$tree/opt/syncd/bin/python
version=$("$python" -c 'import syncd; print(syncd.__version__)')
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
architecture=$(dpkg --print-architecture)

mkdir "$tree/DEBIAN"
for script in postinst prerm postrm; do install -m 0755 "$here/deploy/install/deb/$script" "$tree/DEBIAN/$script"; done
cat >"$tree/DEBIAN/control" <<CONTROL
Package: syncd
Version: $version
Architecture: $architecture
Maintainer: The maintainers of syncd
Installed-Size: $(du -sk "$tree" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))
Section: database
Priority: optional
Description: keeps Bitrix24 order bindings and a mapping table in step
 A two-way sync service between the order bindings of a Bitrix24 portal and a mapping table in an SQL database, run
 unattended under systemd.
CONTROL
mkdir -p "$dist"
dpkg-deb --root-owner-group -Zgzip -z1 --build "$tree" "$dist/syncd_${version}_$architecture.deb"
