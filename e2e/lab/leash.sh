#!/bin/bash
# Ends a control plane when whoever made it is gone, however it went: then this script's standard input closes.
# Usage: leash.sh FOLDER, with the mark of the control plane's processes in VIRGA_LAB_ID.
read -r _
# Twice, for what was being started at the first look.
for _ in 1 2; do
    for environment in /proc/[0-9]*/environ; do
        pid=${environment#/proc/}
        pid=${pid%/environ}
        if [ "$pid" != "$$" ] && grep -qsz "^VIRGA_LAB_ID=$VIRGA_LAB_ID\$" "$environment"; then
            kill -9 "$pid"
        fi
    done
done
rm -rf --one-file-system "$1"
