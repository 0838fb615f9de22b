#!/usr/bin/env bash
# scripts/ceph/down.sh DIR [--wipe] : ends the daemons that up.sh started in DIR, by pid
set -u; DIR=$(readlink -f "${1:?folder}")
for n in radosgw osd mon; do p=$DIR/run/$n.pid; [ -f "$p" ] || continue; P=$(cat "$p")
  case "$(cat /proc/"$P"/comm 2>/dev/null)" in radosgw|ceph-osd|ceph-mon) ;; *) rm -f "$p"; continue;; esac
  S=TERM; { [ "${2:-}" = --wipe ] || [ $n = radosgw ]; } && S=KILL # the gateway holds no state; the OSD writes its memstore out on TERM
  kill -$S "$P" 2>/dev/null; for _ in $(seq 100); do { kill -0 "$P" && ! grep -q "^State:.Z" /proc/$P/status; } 2>/dev/null || break; sleep 0.1; done; kill -9 "$P" 2>/dev/null; rm -f "$p"
done
[ "${2:-}" = --wipe ] && rm -rf "$DIR"/{mon,osd,run,log,rgw,ceph.conf,monmap,env}; true
