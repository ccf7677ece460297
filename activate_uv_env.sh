#!/usr/bin/env bash
# Makes and activates the project's Python environment, `.venv` beside this file:
#
#     source activate_uv_env.sh          (bash or zsh, from any folder)
#
# The first call creates `.venv`, installs requirements.txt and the package (editable, with what its tests need).
# A later call only activates it, unless requirements.txt, setup.py or the folder's place has changed. Nothing
# outside `.venv` and the download caches is written. `rm -rf .venv` starts again from nothing.
#
# Python: the first of python3, python, python3.13 ... python3.10 on PATH that is 3.10 or newer.
# Packages: by `uv` (from PATH, else fetched into `.venv`), with the index, certificate, proxy and folders that
# pip is configured with; by pip where uv cannot reach the index.
#
# Everything but the activation runs in a child process (`bash activate_uv_env.sh`, second half of this file), so
# neither an error nor Ctrl-C there can end or alter the calling shell.

# ---- first half: runs in the caller's shell, so plain sh, no option changed, no name left behind ----

_alphaction_activate() {
    # $1: the path of this file
    _alphaction_root=$(CDPATH='' cd -- "$(dirname -- "$1")" >/dev/null 2>&1 && pwd -P) &&
        bash "$_alphaction_root/activate_uv_env.sh" --install &&
        . "$_alphaction_root/.venv/bin/activate"
}

_alphaction_file=''
if [ -n "${ZSH_VERSION:-}" ]; then
    eval '_alphaction_file=${(%):-%x}'
elif [ -n "${BASH_VERSION:-}" ]; then
    if [ "${BASH_SOURCE[0]}" != "$0" ]; then
        _alphaction_file=${BASH_SOURCE[0]}
    fi
elif [ -f ./activate_uv_env.sh ]; then
    _alphaction_file=./activate_uv_env.sh # another shell: it does not tell where a sourced file is
fi

if [ -n "$_alphaction_file" ]; then
    if _alphaction_activate "$_alphaction_file"; then
        unset -f _alphaction_activate
        unset _alphaction_file _alphaction_root
        return 0
    else
        unset -f _alphaction_activate
        unset _alphaction_file _alphaction_root
        return 1
    fi
fi

# ---- second half: its own bash process ----

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) || exit 1
VENV=$ROOT/.venv
VENV_PYTHON=$VENV/bin/python
STAMP=$VENV/.alphaction-stamp           # what the finished environment was made from
UNFINISHED=$VENV/.alphaction-unfinished # stands there while the environment is being changed
LOCK=$VENV/.alphaction-lock
LOG=$VENV/install.log
STAMP_FORMAT=1 # raise it when this file installs something else from the same requirements

say() { printf '%s\n' "activate_uv_env.sh: $*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# Prints the environment's fingerprint: place and Python on the first line, contents on the second.
fingerprint() {
    "$1" -IS - "$ROOT" "$VENV" "$STAMP_FORMAT" <<'PYTHON'
import hashlib, pathlib, sys

root, venv, stamp_format = sys.argv[1:]
contents = hashlib.sha256(stamp_format.encode())
for name in ("requirements.txt", "setup.py"):
    contents.update(b"\0" + (pathlib.Path(root) / name).read_bytes())
print(venv, "python", ".".join(map(str, sys.version_info[:2])))
print(contents.hexdigest())
PYTHON
}

is_ready() {
    [ -f "$STAMP" ] && [ ! -e "$UNFINISHED" ] && [ -x "$VENV_PYTHON" ] || return 1
    [ "$(fingerprint "$VENV_PYTHON" 2>/dev/null)" = "$(cat "$STAMP")" ]
}

# Prints the path of a Python >= 3.10, or says in one line why there is none.
find_python() {
    local name found old=''
    for name in python3 python python3.13 python3.12 python3.11 python3.10; do
        found=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null) || continue
        case $found in
            3.1[0-9]\ *) printf '%s\n' "${found#* }" && return 0 ;;
            *) old=${old:-"$name is Python ${found%% *} (${found#* })"} ;;
        esac
    done
    if [ -n "$old" ]; then
        die "Python 3.10 or newer is needed, $old; install a newer one, e.g. \`apt install python3\` on Debian 12+"
    fi
    die "no Python found; Python 3.10 or newer is needed, e.g. \`apt install python3 python3-venv\` on Debian 12+"
}

# Waits until no other process installs into this .venv. The lock sits on the open file, which this process keeps:
# the system drops it when the process ends, however it ends.
take_lock() {
    exec 9>"$LOCK" || die "cannot write $LOCK: check the folder's permissions and that the disk is not full"
    "$1" -IS -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("activate_uv_env.sh: another process is installing into .venv, waiting for it", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks'
}

is_disk_full() {
    grep -q -i -E 'no space left|disk quota exceeded|ENOSPC' "$LOG" 2>/dev/null && return 0
    local free
    free=$(df -Pk "$VENV" 2>/dev/null | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)
    case $free in '' | *[!0-9]*) return 1 ;; esac
    [ "$free" -lt 1024 ]
}

is_network_down() {
    grep -q -i -E "Retrying \(Retry|ConnectionError|Connection(Timeout)?Error|NameResolution|name resolution|Failed to fetch|\
error sending request|dns error|Connection refused|Network is unreachable|timed out|SSLError|certificate" "$LOG" 2>/dev/null
}

die_of_install() {
    if is_disk_full; then
        die "the disk is full ($VENV); about 8 GB are needed with PyTorch's GPU libraries; free some and call again"
    fi
    if is_network_down; then
        die "cannot reach the package index: check the network and pip's settings (index-url, proxy, cert); log: $LOG"
    fi
    local reason
    reason=$(grep -E '^(error|ERROR|  ×|OSError|PermissionError)' "$LOG" | tail -n 1 | cut -c 1-200)
    die "$1${reason:+: $reason}; log: $LOG"
}

# Runs a command; its output goes to the log, and of it to the screen what shows progress.
logged() {
    printf '\n$ %s\n' "$*" >>"$LOG"
    "$@" 2>&1 </dev/null | while IFS= read -r line; do
        printf '%s\n' "$line" >>"$LOG"
        case $line in
            Resolved* | Prepared* | Installed* | *Downloading* | *Building* | Installing* | Collecting*)
                printf '  %s\n' "$line" >&2
                ;;
        esac
    done
    return "${PIPESTATUS[0]}"
}

# Prints, one word a line, the options that make uv use what pip is configured with; `ENV name value` lines are
# variables to export. pip's order: /etc, user, environment's own file, PIP_CONFIG_FILE, PIP_* variables.
pip_settings_for_uv() {
    "$VENV_PYTHON" -IS - "$VENV" <<'PYTHON'
import configparser, os, pathlib, sys

home = pathlib.Path(os.path.expanduser("~"))
own = os.environ.get("PIP_CONFIG_FILE", "")
files = [pathlib.Path(folder) / "pip" / "pip.conf" for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
files += [pathlib.Path("/etc/pip.conf")]
if not (own and os.path.exists(own)):
    files += [home / ".pip/pip.conf", pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"]
files += [pathlib.Path(sys.argv[1]) / "pip.conf"] + ([pathlib.Path(own)] if own else [])
settings = {"global": {}, "install": {}}
for file in files if own != os.devnull else []:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError):
        continue
    for section, values in settings.items():
        if parser.has_section(section):
            values.update({key.replace("_", "-"): value for key, value in parser.items(section)})
merged = {**settings["global"], **settings["install"]}
merged.update({k[4:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("PIP_") and v})

def emit(*words):
    print(*words, sep="\n")

if "index-url" in merged and not (os.environ.get("UV_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX")):
    emit("--index-url", merged["index-url"].strip())
for key, option in (("extra-index-url", "--extra-index-url"), ("find-links", "--find-links"),
                    ("trusted-host", "--allow-insecure-host"), ("constraint", "--constraints")):
    for value in merged.get(key, "").split():
        emit(option, value)
if merged.get("extra-index-url"):
    emit("--index-strategy", "unsafe-best-match")  # the highest version of all indexes, as pip chooses
if merged.get("no-index", "").lower() in ("1", "true", "yes", "on"):
    emit("--no-index")
if merged.get("cert"):
    emit("ENV SSL_CERT_FILE " + merged["cert"].strip())
if merged.get("client-cert"):
    emit("ENV SSL_CLIENT_CERT " + merged["client-cert"].strip())
if merged.get("proxy"):
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        emit("ENV %s %s" % (name, merged["proxy"].strip()))
if merged.get("timeout", merged.get("default-timeout", "")).strip().isdigit():
    emit("ENV UV_HTTP_TIMEOUT " + merged.get("timeout", merged.get("default-timeout", "")).strip())
PYTHON
}

has_pip() { "$VENV_PYTHON" -c 'import pip' 2>/dev/null; }

ensure_pip() { has_pip || logged "$VENV_PYTHON" -m ensurepip; }

# Sets UV to a usable uv, or to nothing when packages have to come by pip.
find_uv() {
    UV=$(command -v uv) && return 0
    UV=$VENV/bin/uv
    [ -x "$UV" ] && return 0
    say "getting uv"
    logged "$VENV_PYTHON" -m pip install --quiet uv && [ -x "$UV" ] && return 0
    if is_disk_full || is_network_down; then
        die_of_install "cannot get uv"
    fi
    say "the package index has no uv for this machine; going on with pip (slower)"
    UV=''
}

read_pip_settings() {
    local line
    UV_OPTIONS=()
    while IFS= read -r line; do
        case $line in
            'ENV '*) line=${line#ENV } && export "${line%% *}=${line#* }" ;;
            *) UV_OPTIONS+=("$line") ;;
        esac
    done < <(pip_settings_for_uv)
}

uv_install() {
    logged "$UV" pip install --python "$VENV_PYTHON" ${UV_OPTIONS[@]+"${UV_OPTIONS[@]}"} "$@" && return 0
    is_disk_full && return 1
    if [ -z "${UV_SYSTEM_CERTS:-}" ] && grep -q -E 'UnknownIssuer|invalid peer certificate' "$LOG"; then
        export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 # the second is the older name
        logged "$UV" pip install --python "$VENV_PYTHON" ${UV_OPTIONS[@]+"${UV_OPTIONS[@]}"} "$@" && return 0
    fi
    return 1
}

# install OPTION... PACKAGE...: options that uv and pip share.
install() {
    if [ -n "$UV" ]; then
        uv_install "$@" && return 0
        is_disk_full && return 1
        say "uv could not install (see $LOG); trying pip"
        UV=''
        ensure_pip || return 1
    fi
    logged "$VENV_PYTHON" -m pip install "$@"
}

uninstall() {
    if [ -n "$UV" ]; then
        logged "$UV" pip uninstall --python "$VENV_PYTHON" "$@"
    else
        logged "$VENV_PYTHON" -m pip uninstall --yes "$@"
    fi
}

# opencv-python needs libGL and X11 libraries, which a server lacks; the headless build has the same `cv2`.
mend_opencv() {
    local reason version
    reason=$("$VENV_PYTHON" -c 'import cv2' 2>&1) && return 0
    case $reason in *.so*) ;; *) die "cannot import cv2: ${reason##*$'\n'}; log: $LOG" ;; esac
    version=$("$VENV_PYTHON" -c 'import importlib.metadata as m; print(m.version("opencv-python"))' 2>/dev/null) ||
        die "cannot import cv2: ${reason##*$'\n'}"
    say "opencv-python cannot be imported here (${reason##*$'\n'}); installing opencv-python-headless $version instead"
    uninstall opencv-python
    uninstall opencv-python-headless # its files are gone with those of opencv-python when both were there
    install --no-deps "opencv-python-headless==$version" ||
        install --no-deps opencv-python-headless || die_of_install "cannot install opencv-python-headless"
    reason=$("$VENV_PYTHON" -c 'import cv2' 2>&1) || die "cannot import cv2: ${reason##*$'\n'}; log: $LOG"
}

check_imports() {
    local reason
    # nms: a torchvision that was built for another torch imports, but has lost its operators.
    reason=$("$VENV_PYTHON" -c 'import torch, torchvision, av, numpy, yacs, alphaction
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)' 2>&1) ||
        die "an installed package does not work: ${reason##*$'\n'}; \`rm -rf .venv\` and call again; log: $LOG"
}

make_venv() {
    local python=$1
    # Not `venv --clear`: the lock is inside.
    find "$VENV/" -mindepth 1 -maxdepth 1 ! -name "${LOCK##*/}" -exec rm -rf {} + || die "cannot empty $VENV"
    : >"$UNFINISHED" || die "cannot write $VENV: check the folder's permissions and that the disk is not full"
    : >"$LOG"
    if command -v uv >/dev/null; then
        logged "$python" -m venv --without-pip "$VENV" || die_of_install "cannot create $VENV"
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            die "$python lacks the venv and ensurepip modules; on Debian and Ubuntu: \`apt install python3-venv\`"
        logged "$python" -m venv "$VENV" || die_of_install "cannot create $VENV"
    fi
}

# An environment of another place or Python, half-made or broken, is made anew; one of older requirements is updated.
can_update() {
    [ ! -e "$UNFINISHED" ] && [ -x "$VENV_PYTHON" ] || return 1
    local now before
    now=$(fingerprint "$VENV_PYTHON" 2>/dev/null) || return 1
    case ${now%%$'\n'*} in *' python 3.1'[0-9]) ;; *) return 1 ;; esac
    [ -f "$STAMP" ] || return 0
    IFS= read -r before <"$STAMP"
    [ "${now%%$'\n'*}" = "$before" ]
}

main() {
    [ "${1:-}" = --install ] || die "source this file instead of running it: source $ROOT/activate_uv_env.sh"
    is_ready && return 0

    local python updating=no start=$SECONDS name
    for name in requirements.txt setup.py; do
        [ -f "$ROOT/$name" ] || die "$ROOT/$name is missing: this file belongs into the project's folder"
    done
    PATH=:$PATH: && PATH=${PATH//:"$VENV/bin":/:} && PATH=${PATH#:} && PATH=${PATH%:} # never build .venv with itself
    unset PYTHONHOME PYTHONPATH VIRTUAL_ENV CONDA_PREFIX UV_SYSTEM_PYTHON UV_BREAK_SYSTEM_PACKAGES PIP_TARGET PIP_PREFIX PIP_ROOT
    export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
    python=$(find_python) || exit 1
    mkdir -p "$VENV" 2>/dev/null || die "cannot create $VENV: check the folder's permissions and that the disk is not full"
    take_lock "$python"
    is_ready && return 0 # made by the process that was waited for

    if can_update; then
        updating=yes
        say "updating .venv"
        : >"$LOG"
    else
        say "creating .venv with $python"
        make_venv "$python"
    fi
    find_uv
    read_pip_settings
    say "installing requirements.txt and alphaction (the first time this downloads about 3 GB)"
    : >"$UNFINISHED"
    if ! install pip -r "$ROOT/requirements.txt" -e "$ROOT[test]"; then
        # Both installers fetch everything before they change anything, so an older environment is still whole.
        [ $updating = yes ] && ! is_disk_full && rm -f "$UNFINISHED"
        die_of_install "installation failed"
    fi
    mend_opencv
    check_imports
    fingerprint "$VENV_PYTHON" >"$STAMP.new" && mv -f "$STAMP.new" "$STAMP" && rm -f "$UNFINISHED" ||
        die "cannot write $STAMP: check that the disk is not full"
    say "ready after $((SECONDS - start)) s"
}

main "$@"
exit
