"""OpenSCAP with the profiles of ANSSI-BP-028, the French agency's guide to hardening GNU/Linux, on the host itself.

The scanner comes from the host's own distribution, with what it needs, and is unpacked, not installed; the rules come
with the auditor's image, since Debian 12's package has none for Debian 12. Nobody has written any for Debian 13.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.audit.finding import Finding, Verdict, judged, looked
from tests.audit.subject import Subject

CONTENT = {"debian12": "/opt/ssg/ssg-debian12-ds.xml.xz"}
"""System → the rules for it, in the auditor's image (package ssg-debian of Debian 13)."""
PROFILES = ("minimal", "intermediary", "enhanced")
"""Levels of the guide; each has all of the one before."""
ENHANCED = 92
"""Percent of the rules of "enhanced" that a host must keep; of the others, all."""
RULES = {"minimal": 25, "intermediary": 70, "enhanced": 80}
"""Rules that a profile judges at least; of version 0.1.76, in a container: 31, 78 and 87."""
CHUNK = 90_000
"""Characters in one command: Linux takes 131,072 in an argument (MAX_ARG_STRLEN)."""

PASSWDQC = "passwdqc judges new passwords, and takes passphrases; pwquality would stand beside it and counts characters"
LISTED = {
    **dict.fromkeys(
        (
            "package_pam_pwquality_installed",
            *(f"accounts_password_pam_{each}" for each in ("minlen", "minclass", "retry")),
            *(f"accounts_password_pam_{each}credit" for each in "dlou"),
        ),
        PASSWDQC,
    ),
    "accounts_password_pam_unix_rounds_password_auth": "11 of yescrypt takes 1 GB of memory at each login by password",
    "accounts_password_set_max_life_root": "root has no password; one that ran out would refuse its key as well",
    "sudo_add_noexec": "a shell by sudo could start no program: no run of Slipway's, nor an operator's",
    "sudo_add_requiretty": "a run has no terminal; use_pty, which is set, gives sudo one of its own",
    "sudo_add_umask": "0077 would hide what an operator makes for others: a site's folder, a key of apt's",
    "sudo_add_ignore_dot": "secure_path, which is set, takes the place of a PATH with a dot in it",
    "sudoers_explicit_command_args": "an operator may do all, as Debian's own group sudo may",
    "sudoers_no_root_target": "an operator is who may become root",
}
"""Rule → why this project has chosen otherwise."""
IN_CONTAINERS = {"prefer_64bit_os": "the kernel's name is that of the machine which runs the container"}
"""The same, of a rule that asks for what a container hasn't of its own."""

_SEND = "umask 077; mkdir -p /run/slipway-audit && printf %s {chunk} >>/run/slipway-audit/rules"
_SCAN = """set -e
d=$(mktemp -d) && trap 'rm -rf "$d" /run/slipway-audit' EXIT && chmod 755 "$d" && mkdir "$d/deb" && chmod 777 "$d/deb"
base64 -d /run/slipway-audit/rules | python3 -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer)' >"$d/rules.xml"
cd "$d/deb"
apt-get -qq update >&2
missing=$(apt-get -s install --no-install-recommends openscap-scanner | sed -n 's/^Inst \\([^ ]*\\).*/\\1/p')
apt-get -qq download $missing >&2
for package in *.deb; do dpkg-deb -x "$package" "$d/root"; done
cd "$d"
export LD_LIBRARY_PATH=$(find "$d/root" -name '*.so*' -printf '%h\\n' | sort -u | paste -s -d :)
for each in schemas:SCHEMA xsl:XSLT cpe:CPE; do
    export "OSCAP_${each#*:}_PATH=$d/root/usr/share/openscap/${each%:*}"
done
for profile in PROFILES; do
    nice "$d/root/usr/bin/oscap" xccdf eval --skip-validation --results "$d/$profile.xml" \
        --profile "xccdf_org.ssgproject.content_profile_anssi_bp28_$profile" "$d/rules.xml" >/dev/null 2>"$d/errors" ||
        [ $? = 2 ] || { cat "$d/errors" >&2; exit 1; }  # 2: a rule isn't kept
done
python3 - PROFILES <<'END'
import json, sys, xml.etree.ElementTree as tree
def results(profile):
    for each in tree.parse(f"{profile}.xml").iter("{http://checklists.nist.gov/xccdf/1.2}rule-result"):
        yield each.get("idref").rpartition("_rule_")[2], each.findtext("{*}result")
print(json.dumps({profile: dict(results(profile)) for profile in sys.argv[1:]}))
END
""".replace("PROFILES", " ".join(PROFILES))


def anssi(subject: Subject) -> Finding:
    """Which rules of each profile the host keeps."""
    path = CONTENT.get(subject.system)
    if path is None:
        return Finding(Verdict.LEFT_OUT, f"nobody has written rules for {subject.system}")
    rules = subject.auditor.run(["base64", "--wrap=0", path]).output
    looked(len(rules) > CHUNK, "the auditor's image has no rules")
    subject.run("rm -rf /run/slipway-audit")
    for start in range(0, len(rules), CHUNK):
        subject.run(_SEND.format(chunk=rules[start : start + CHUNK]))
    container = subject.run("systemd-detect-virt --container", check=False).strip() not in ("", "none")
    return anssi_finding(subject.run(_SCAN), container=container)


def anssi_finding(printed: str, *, container: bool) -> Finding:
    """What OpenSCAP says of each rule, as JSON: profile → rule → "pass", "fail", "notapplicable" and the like."""
    told: Mapping[str, Mapping[str, str]] = json.loads(printed)
    listed = LISTED | (IN_CONTAINERS if container else {})
    measured, details, met = [], [], True
    for profile in PROFILES:
        results = told[profile]
        failed = [rule for rule, result in results.items() if result == "fail"]
        passed = sum(result == "pass" for result in results.values())
        unclear = [rule for rule, result in results.items() if result in ("error", "unknown")]
        looked(passed + len(failed) >= RULES[profile], f"{profile}: {passed + len(failed)} rules were judged")
        looked(not unclear, f"{profile}: OpenSCAP could not judge {', '.join(unclear)}")
        short = [rule for rule in failed if rule not in listed]
        share = 100 * passed / (passed + len(short))
        met = met and share >= (ENHANCED if profile == "enhanced" else 100)
        measured.append(f"{profile} {share:.1f}")
        details += [f"{profile}: {rule}" for rule in short]
    chosen = sorted({rule for results in told.values() for rule in listed if results.get(rule) == "fail"})
    return judged(met, ", ".join(measured), [*details, *(f"listed: {rule}: {listed[rule]}" for rule in chosen)])
