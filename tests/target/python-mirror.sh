# Repack Debian's Python $1 as the archive `uv python install` expects; runs in a container of a target's image.
# Results in /out: python-<version>.tar.gz, and its full version in the file "version".
set -eu
version=$1
export DEBIAN_FRONTEND=noninteractive
mkdir -p /out /tmp/deb /tmp/tree/python
cd /tmp/deb
apt-get -qq update
# patchelf, and the libraries that Python's modules load: only their files end up in the archive.
apt-get -qq -y install --no-install-recommends patchelf "python$version" media-types >/dev/null
apt-get -qq download "python$version" "python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib" 2>/dev/null
for package in *.deb; do dpkg -x "$package" /tmp/unpacked; done

cd /tmp/tree/python
mkdir bin lib
cp -a "/tmp/unpacked/usr/bin/python$version" bin/
cp -a "/tmp/unpacked/usr/lib/python$version" lib/
# Debian's absolute links (into /etc, /usr/share) lead nowhere in an archive.
find . -type l -lname '/*' -delete
find . -name __pycache__ -prune -exec rm -rf {} +

# A bare host has neither SQLite's library nor libffi: bring every library but glibc's own, found beside the interpreter.
ldd "bin/python$version" "lib/python$version"/lib-dynload/*.so 2>/dev/null \
    | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u \
    | grep -v -E '/(libc|libm|libdl|librt|libpthread|libutil|libresolv|ld-linux[^/]*)\.so' \
    | while read -r library; do cp -L "$library" lib/; done
# DT_RPATH, not RUNPATH: it also holds for the modules that the interpreter loads later.
patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "bin/python$version"

"bin/python$version" -c 'import platform; print(platform.python_version())' > /out/version
find . -name __pycache__ -prune -exec rm -rf {} +
tar -C /tmp/tree --owner=0 --group=0 -czf "/out/python-$version.tar.gz" python
