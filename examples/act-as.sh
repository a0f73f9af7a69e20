#!/usr/bin/env bash
# Acts as a user of Actas for as long as one command or one call takes, on the record, and always comes back.
#
# No secret is ever an argument of a program, where every user of the machine could read it: they go through pipes and through
# files that only their owner can read. Needs bash, curl, jq, and sha256sum or shasum.
set -euo pipefail
umask 077

usage() {
    cat <<'USAGE'
Usage: act-as.sh --as EMAIL --reason TEXT [OPTION…] [--] COMMAND [ARGUMENT…]
       act-as.sh --as EMAIL --reason TEXT [OPTION…] --call METHOD PATH [--data FILE]

Logs in, acts as a user, runs a command or makes one call of the API as that user, ends the
impersonation, and logs out. The impersonation ends whatever becomes of the command, also when
it fails or this script is interrupted.

  --as EMAIL             as whom to act
  --reason TEXT          why; the history keeps it
  --ticket TEXT          the support ticket that it belongs to
  --read-only            only look
  --duration SECONDS     end it after so long even if this script can't any more
  --call METHOD PATH     make this call, such as GET /v1/me, and print the answer
  --data FILE            the call's JSON body; - reads it from the standard input
  --url URL              where Actas is (default: $ACT_AS_URL, or http://localhost:8080)
  --email EMAIL          who logs in (default: $ACT_AS_EMAIL, or a question)
  --password-file FILE   a file with the password (default: $ACT_AS_PASSWORD, or a question)

The command finds in its environment ACT_AS_URL, ACT_AS_TOKEN, and in ACT_AS_HEADERS the path of a file for curl:

  act-as.sh --as ed@newsroom.example --reason 'the list is empty' -- \
      bash -c 'curl -sS -H @"$ACT_AS_HEADERS" "$ACT_AS_URL/v1/articles" | jq .'

Exit status: the command's own, or 0 and 1 for a call; 1 where nothing was done; 2 for wrong
usage; 3 where the impersonation could not be ended from here, so that somebody has to.
USAGE
}

say() { printf 'act-as: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

misused() {
    say "$@"
    say 'act-as.sh --help says how'
    exit 2
}

url=${ACT_AS_URL:-http://localhost:8080}
email=${ACT_AS_EMAIL:-}
password=${ACT_AS_PASSWORD:-}
password_file='' as='' reason='' ticket='' mode='' duration='' method='' path='' data=''
# The command has no business with it.
unset ACT_AS_PASSWORD

while (($# > 0)); do
    case $1 in
        --help | -h) usage && exit ;;
        --read-only) mode=read_only && shift && continue ;;
        --) shift && break ;;
        --as | --reason | --ticket | --duration | --data | --url | --email | --password-file) (($# >= 2)) || misused "$1 needs a value" ;;
        --call) (($# >= 3)) || misused '--call needs a method and a path' ;;
        -*) misused "there is no option $1" ;;
        *) break ;;
    esac
    case $1 in
        --as) as=$2 ;;
        --reason) reason=$2 ;;
        --ticket) ticket=$2 ;;
        --duration) duration=$2 ;;
        --data) data=$2 ;;
        --url) url=$2 ;;
        --email) email=$2 ;;
        --password-file) password_file=$2 ;;
        --call) method=$2 path=$3 && shift ;;
    esac
    shift 2
done
url=${url%/}
[[ -n $as ]] || misused 'say with --as as whom to act'
[[ -n $reason ]] || misused 'say with --reason why'
[[ -z $duration || $duration =~ ^[0-9]+$ ]] || misused '--duration is a number of seconds'
if [[ -n $method ]]; then
    (($# == 0)) || misused "with --call there is no command: $1"
    [[ $path == /* ]] || misused "a path begins with /: $path"
else
    (($# > 0)) || misused 'say which command to run, or which --call to make'
    [[ -z $data ]] || misused '--data belongs to --call'
fi
for program in curl jq; do
    command -v "$program" >/dev/null || fail "$program is missing"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/act-as.XXXXXXXX")
own=$work/own acting=$work/acting answer=$work/answer
child='' verifier='' trouble=0

# request METHOD PATH [HEADERS [BODY]]: asks Actas with the headers in one file and the body in another. The answer is in
# $answer. Fails unless it is good, and says why.
request() {
    local options=(--silent --show-error --max-time 60 --request "$1" --output "$answer" --write-out '%{http_code}') status
    [[ -z ${3:-} ]] || options+=(--header @"$3")
    [[ -z ${4:-} ]] || options+=(--header 'Content-Type: application/json' --data-binary @"$4")
    : >"$answer"
    status=$(curl "${options[@]}" "$url$2") || return 1
    # With its status: in a trap, a bare return has that of what came before.
    [[ $status == 2* ]] && return 0
    say "$1 $2 answered $status"
    jq --raw-output '(.code // empty) + ": " + (.detail // empty),
        ((.reasons // [])[], (.errors // [])[] | "  " + .code + ": " + .detail)' "$answer" >&2 2>/dev/null || true
    return 1
}

# keep_token FILE: keeps the access token in $answer as a header that curl reads from a file.
keep_token() { jq --raw-output --exit-status '"Authorization: Bearer " + .access_token' "$answer" >"$1"; }

# Whatever happened, nobody acts as anybody when this is over.
# shellcheck disable=SC2329 # A trap invokes it.
finish() {
    local status=$?
    trap '' HUP INT TERM
    trap - EXIT
    if [[ -n $child ]] && kill -0 "$child" 2>/dev/null; then
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [[ -s $acting ]]; then
        jq --null-input '{restore_verifier: env.verifier}' >"$work/body"
        if request POST /v1/auth/logout "$acting" "$work/body" && keep_token "$work/restored" && cmp --silent "$own" "$work/restored"; then
            say 'the impersonation is over'
        else
            trouble=1
        fi
    fi
    # Ends every impersonation that was started from it, too: also one whose start was never answered.
    if [[ -s $own ]]; then
        if request POST /v1/auth/logout "$own"; then trouble=0; else trouble=1; fi
    fi
    rm -rf "$work"
    if ((trouble)); then
        say "the impersonation of $as may still run; end it with DELETE /v1/impersonations/{id}"
        status=3
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

[[ -n $email ]] || read -rp 'Your e-mail address: ' email
if [[ -n $password_file ]]; then
    password=$(<"$password_file")
elif [[ -z $password ]]; then
    read -rsp "Password of $email: " password
    printf '\n' >&2
fi
# printf is the shell's own, so the password is nobody's argument.
printf %s "$password" | jq --raw-input --slurp --arg email "$email" '{email: $email, password: .}' >"$work/body"
unset password
request POST /v1/auth/login '' "$work/body" || exit 1
keep_token "$own"

request GET "/v1/users?email=$(jq --null-input --raw-output --arg email "$as" '$email | @uri')" "$own" || exit 1
subject=$(jq --raw-output '.items[0].id // empty' "$answer")
[[ -n $subject ]] || fail "there is no user with the e-mail address $as"

# Whoever steals the token of the impersonation can't log out into the administrator's own: that takes the verifier.
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
base64url() { base64 | tr '+/' '-_' | tr -d '=\n'; }
verifier=$(head -c 32 /dev/urandom | base64url)
export verifier
challenge=$(printf %b "$(printf %s "$verifier" | sha256 | cut -c 1-64 | sed 's/../\\x&/g')" | base64url)
jq --null-input --arg reason "$reason" --arg ticket "$ticket" --arg mode "$mode" --arg duration "$duration" --arg challenge "$challenge" \
    '{reason: $reason, restore_challenge: $challenge}
        + if $mode == "" then {} else {mode: $mode} end
        + if $ticket == "" then {} else {ticket: $ticket} end
        + if $duration == "" then {} else {duration_seconds: ($duration | tonumber)} end' >"$work/body"
request POST "/v1/users/$subject/impersonate" "$own" "$work/body" || exit 1
keep_token "$acting"
say "$(jq --raw-output '.session | .actor.display_name + " acting as " + .subject.display_name + " until " + .expires_at' "$answer")"

if [[ -n $method ]]; then
    if [[ $data == - ]]; then
        cat >"$work/data"
        data=$work/data
    fi
    request "$method" "$path" "$acting" "$data" || exit 1
    cat "$answer"
    exit
fi

# In the background, so that a signal ends the impersonation now and not when the command is done. With this script's own standard input.
(
    unset verifier
    ACT_AS_TOKEN=$(sed 's/^Authorization: Bearer //' "$acting")
    export ACT_AS_URL=$url ACT_AS_HEADERS=$acting ACT_AS_TOKEN
    exec "$@"
) <&0 &
child=$!
status=0
wait "$child" || status=$?
child=''
exit "$status"
