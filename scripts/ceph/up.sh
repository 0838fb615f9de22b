#!/usr/bin/env bash
# A throwaway Ceph for tests and for trying roles out: one monitor, one OSD in memory, and a gateway with STS, on 127.0.0.1 only.
# Needs Debian's radosgw ceph-mon ceph-osd ceph-common, and curl.
#   scripts/ceph/up.sh DIR [RGW_PORT=8480] [MON_PORT=40789]
# Idempotent: a gateway that answers is left as it is; otherwise a fresh empty cluster is made (KEEP=1 keeps old data).
# RGW_VERIFY_SSL=false lets radosgw fetch discovery/JWKS from a self-signed https issuer (http issuers need nothing).
set -euo pipefail
mkdir -p "${1:?folder}"; DIR=$(readlink -f "$1"); RGW_PORT=${2:-8480}; MON_PORT=${3:-40789}; CONF=$DIR/ceph.conf
up(){ curl -fsS -m 3 -o /dev/null "http://127.0.0.1:$RGW_PORT/" 2>/dev/null; }
alive(){ [ -f "$DIR/run/$1.pid" ] && kill -0 "$(cat "$DIR/run/$1.pid")" 2>/dev/null; }
if [ -f "$DIR/env" ] && alive radosgw && up; then cat "$DIR/env"; exit 0; fi
if up; then echo "port $RGW_PORT is taken by something else" >&2; exit 1; fi
if [ "${KEEP:-}" = 1 ]; then "$(dirname "$0")/down.sh" "$DIR"; else "$(dirname "$0")/down.sh" "$DIR" --wipe; fi
mkdir -p "$DIR"/{mon,osd,run,log,rgw}
if [ ! -f "$CONF" ]; then
FSID=$(cat /proc/sys/kernel/random/uuid)
# notes: v2 only (a v1-only mon makes the OSD's boot command fail with 'wrong fsid');
# ms mon client mode = crc, since radosgw defaults to 'secure', which needs cephx; paxos intervals: cold start 17 s -> 2.6 s.
cat > "$CONF" <<C
[global]
fsid = $FSID
mon initial members = a
mon host = [v2:127.0.0.1:$MON_PORT]
auth cluster required = none
auth service required = none
auth client required = none
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
ms mon client mode = crc
ms bind port min = $((MON_PORT+1))
ms bind port max = $((MON_PORT+200))
run dir = $DIR/run
pid file =
admin socket = $DIR/run/\$name.asok
log file = $DIR/log/\$name.log
crash dir = $DIR/log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd fast shutdown = false
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 1
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.02
[mon]
mon data = $DIR/mon/a
mon cluster log file = $DIR/log/cluster.log
[osd]
osd data = $DIR/osd/\$id
osd objectstore = memstore
memstore device bytes = 1073741824
osd class load list = *
osd class default list = *
[client]
rgw data = $DIR/rgw
rgw frontends = beast endpoint=127.0.0.1:$RGW_PORT
rgw dns name = localhost
rgw s3 auth use sts = true
rgw sts key = abcdefghijklmnop
rgw enable usage log = false
rgw crypt require ssl = false
rgw verify ssl = ${RGW_VERIFY_SSL:-true}
C
fi
FSID=$(awk '/^fsid/{print $3}' "$CONF")
start(){ local n=$1; shift; setsid "$@" >"$DIR/log/$n.out" 2>&1 </dev/null & echo $! >"$DIR/run/$n.pid"; }
wait_for(){ local n=$1 what=$2; shift 2; for _ in $(seq 120); do "$@" && return 0; alive "$n" || break; sleep 0.25; done; echo "$what did not come up; see $DIR/log" >&2; tail -n 5 "$DIR/log/$n.out" >&2; exit 1; }
CEPH=(ceph -c "$CONF" --connect-timeout 10)
if [ ! -d "$DIR/mon/a/store.db" ]; then
  monmaptool --create --clobber --fsid "$FSID" --addv a "[v2:127.0.0.1:$MON_PORT]" "$DIR/monmap" >/dev/null
  ceph-mon -c "$CONF" --mkfs -i a --monmap "$DIR/monmap"
fi
start mon ceph-mon -c "$CONF" -i a -f
mon_up(){ "${CEPH[@]}" mon stat >/dev/null 2>&1; }; wait_for mon 'ceph-mon' mon_up
if [ ! -d "$DIR/osd/0" ]; then
  mkdir -p "$DIR/osd/0"; UUID=$(cat /proc/sys/kernel/random/uuid)
  "${CEPH[@]}" osd new "$UUID" 0 >/dev/null
  ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid "$UUID" >"$DIR/log/osd-mkfs.out" 2>&1
fi
start osd ceph-osd -c "$CONF" -i 0 -f
osd_up(){ "${CEPH[@]}" osd stat 2>/dev/null | grep -q '1 up'; }; wait_for osd 'ceph-osd' osd_up
start radosgw radosgw -c "$CONF" -n client.rgw -f; wait_for radosgw radosgw up
ADM=(radosgw-admin -c "$CONF" -n client.rgw --admin-socket=)
"${ADM[@]}" user info --uid=admin >/dev/null 2>&1 || {
  "${ADM[@]}" user create --uid=admin --display-name=Admin --access-key=ADMINKEY --secret=adminsecret >/dev/null
  "${ADM[@]}" caps add --uid=admin --caps="oidc-provider=*;roles=*" >/dev/null; }
cat > "$DIR/env" <<E
export RGW_ENDPOINT=http://127.0.0.1:$RGW_PORT
export RGW_ADMIN_KEY=ADMINKEY
export RGW_ADMIN_SECRET=adminsecret
export CEPH_CONF=$CONF
E
cat "$DIR/env"
