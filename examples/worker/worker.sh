#!/bin/sh
# A worker of a skep cluster, by curl and jq: claim, do, end; and beats beside it.
#   SKEP_URL=http://127.0.0.1:8000 SKEP_QUEUES=mail SKEP_WORKER_TOKEN=... sh worker.sh
: "${SKEP_URL:=http://127.0.0.1:8080}" "${SKEP_QUEUES:?name them, as in SKEP_QUEUES=mail}"
folder=$(mktemp -d)
queues=$(printf %s "$SKEP_QUEUES" | jq -Rc 'split(",")')
# A process of its own has a name of its own.
worker=sh-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
# No other user of the machine sees it in a list of processes.
(umask 077; printf 'authorization: Bearer %s\n' "$SKEP_WORKER_TOKEN" >"$folder/token")
stopping='' beats=''
trap 'stopping=1' TERM
trap 'kill $beats 2>/dev/null; rm -rf "$folder"' EXIT

# The work itself: the payload comes on stdin, what it prints is the result as JSON.
work() { jq -c '{did: .}'; }

# post PATH BODY SECONDS: asks any node; prints the answer's body. Fails where none has answered, or cannot now.
post() {
    url=$(printf %s "$SKEP_URL" | tr , '\n' | shuf -n 1)
    status=$(printf %s "$2" | curl -s -m "$3" -o "$folder/$4" -w '%{http_code}' -X POST --data-binary @- \
        -H @"$folder/token" -H 'content-type: application/json' "$url$1") || return 1
    case $status in 000 | 401 | 429 | 5*) return 1 ;; 204) : >"$folder/$4" ;; esac
}

until_answered() { until post "$1" "$2" "$3" answer; do sleep 0.5; done; }

beat() { while sleep 3; do post "/workers/$worker/beat" "{\"holds\":[$1]}" 3 beat; done; }

number=0
while [ -z "$stopping" ]; do
    number=$((number + 1))
    claim="{\"worker\":\"$worker\",\"number\":$number,\"queues\":$queues,\"wait\":\"5s\"}"
    until_answered /claim "$claim" 20 # made again with the same number: the same task
    [ -s "$folder/answer" ] || continue
    jq -c '.tasks[0].payload' "$folder/answer" >"$folder/payload"
    id=$(jq -r '.tasks[0].id' "$folder/answer") fence=$(jq '.tasks[0].fence' "$folder/answer")
    beat "$fence" &
    beats=$!
    if [ -n "$stopping" ]; then
        how=release body="{\"fence\":$fence}"
    elif result=$(work <"$folder/payload" 2>"$folder/error"); then
        how=complete body="{\"fence\":$fence,\"result\":$result}"
    else
        how=fail body=$(jq -Rsc --argjson fence "$fence" '{fence: $fence, error: .[-4000:]}' "$folder/error")
    fi
    until_answered "/tasks/$id/$how" "$body" 15 # 409: another has it
    kill $beats 2>/dev/null
done
