
while IFS=: read -r user _ uid _ _ home login; do
    { [ "$uid" -ge 1000 ] && [ "$uid" -lt 60000 ]; } 2>/dev/null || continue
    case $login in *nologin | */false) continue ;; esac
    case $home in /home/*) ;; *) continue ;; esac
    [ -d "$home" ] && [ ! -L "$home" ] && [ "$(stat -c %U "$home")" = "$user" ] || continue
    if [ -z "$(find "$home" -mindepth 1 -maxdepth 1 ! -name '.*' -print -quit)" ]; then
        find "$home" -maxdepth 0 -perm /027 -printf "$user %y %m %p\n"
    fi
    find "$home" -mindepth 1 -maxdepth 1 -type f -user "$user" -perm /027 -regextype posix-extended \
        -regex '.*/[.](((ba|z|k|c|tc)sh(rc|env|_profile|_login|_logout|_aliases))|z?profile|login|logout)' \
        -printf "$user %y %m %p\n"
done </etc/passwd
