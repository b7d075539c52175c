#!/bin/bash
# The first process of a lab node, in network, mount, host name and process namespaces of its own. It makes the
# machine's tree into the node's, starts the node's daemons, starts them again when they end, as systemd would, and
# reaps what is orphaned. When it is killed, all of the node is gone at once: that is how a node loses power.
#
# Its maker sets: LAB_NODE (the node's name), LAB_ADDRESS, LAB_ROOT (the lab's folder), LAB_HOME (the node's folder in
# it), LAB_DIRECTORIES (what the node has for itself).
set -euo pipefail

# The maker says "go" once the cable is in. If it dies before, its end of the pipe closes and this ends too.
read -r -t 60 go && [ "$go" = go ]
exec </dev/null

hostname "$LAB_NODE"

# /sys shows the network namespace of whoever mounted it; libvirt and CNI plugins look there for links.
mkdir -p "$LAB_HOME/cgroup"
mount --rbind /sys/fs/cgroup "$LAB_HOME/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$LAB_HOME/cgroup" /sys/fs/cgroup
umount -l "$LAB_HOME/cgroup"
# With version 1 in use, runc takes a version 2 mounted beside it for one that it should manage too.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi

for directory in $LAB_DIRECTORIES; do mount --bind "$LAB_HOME/fs$directory" "$directory"; done
mount --bind "$LAB_ROOT/shared" /var/lib/virga/shared
mount --bind "$LAB_ROOT/store" /var/lib/virga/store
# libvirt looks up the node's own name, and would wait 5 s for a name server that does not answer.
mount --bind "$LAB_ROOT/hosts" /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind "$LAB_ROOT/resolv.conf" /etc/resolv.conf; fi
# The kubelet and container runtimes want mounts to spread; they spread within the node only.
mount --make-rshared /

echo 1 >/proc/sys/net/ipv4/ip_forward

set +e

# keep NAME COMMAND...: runs it again whenever it ends, unless the file stopped/NAME tells not to.
keep() {
    local name=$1 log=/var/log/$1.log
    shift
    while :; do
        while [ -e "$LAB_HOME/stopped/$name" ]; do sleep 0.1; done
        "$@" >>"$log" 2>&1
        echo "lab: $name ended with $?" >>"$log"
        sleep 0.2
    done
}

# In a lab with OVN.
if [ -e "$LAB_HOME/ovn.sh" ]; then . "$LAB_HOME/ovn.sh"; fi

keep virtlogd /usr/sbin/virtlogd &
keep libvirtd /usr/sbin/libvirtd --listen &
keep containerd containerd --config "$LAB_HOME/containerd.toml" &

# At the first boot; later they are on the node's disk.
for _ in $(seq 200); do ctr version >/dev/null 2>&1 && break || sleep 0.05; done
if [ ! -e "$LAB_HOME/loaded" ]; then
    for image in "$LAB_ROOT"/images/*.tar; do ctr --namespace k8s.io images import "$image"; done
    touch "$LAB_HOME/loaded"
fi

# The conntrack sysctls are the machine's, not the namespace's.
keep kube-proxy "$LAB_ROOT/bin/kube-proxy" --kubeconfig "$LAB_ROOT/kube-proxy.kubeconfig" --proxy-mode iptables \
    --cluster-cidr 10.244.0.0/16 --hostname-override "$LAB_NODE" --conntrack-max-per-core 0 \
    --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 &
keep kubelet "$LAB_ROOT/bin/kubelet" --kubeconfig "$LAB_ROOT/$LAB_NODE.kubeconfig" \
    --config "$LAB_HOME/kubelet.yaml" --hostname-override "$LAB_NODE" --node-ip "$LAB_ADDRESS" &

wait
