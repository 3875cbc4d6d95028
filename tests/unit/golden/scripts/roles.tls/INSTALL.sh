
set -eu
umask 022
folder=$1 requirements=$2 uv=$3; shift 3
"$uv" venv --quiet --clear --python /usr/bin/python3 "$folder"
# --no-build: as wheels, since to build one would run its code as root.
"$uv" pip sync --quiet --no-cache --no-build --require-hashes --compile-bytecode --python "$folder" "$@" "$requirements"
chmod 600 "$folder"/.lock*  # uv lets everybody write to its lock
sync --file-system "$folder"
cp "$requirements" "$folder/requirements.txt"
