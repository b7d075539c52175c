# Read by start.sh in a lab with OVN: the node's switch, all of it in user space, and its ovn-controller.

database=unix:/run/openvswitch/db.sock

# The switch's own interfaces end with its process, and their addresses with them.
switch() {
    ovs-vswitchd --pidfile --verbose=syslog:off "$database" &
    local switch=$!
    until [ -e /sys/class/net/@TUNNEL_BRIDGE@ ] || ! kill -0 "$switch"; do sleep 0.05; done
    # A tunnel leaves by the bridge that has an address in the network of its other end.
    ip address add @TUNNELS@/24 dev @TUNNEL_BRIDGE@
    ip link set @TUNNEL_BRIDGE@ up
    ethtool -K @TUNNEL_BRIDGE@ tx off
    wait "$switch"
}

keep ovsdb-server ovsdb-server --pidfile --verbose=syslog:off --remote=punix:/run/openvswitch/db.sock \
    --remote=db:Open_vSwitch,Open_vSwitch,manager_options /etc/openvswitch/conf.db &
# The others would try again only after a second.
for _ in $(seq 200); do [ -S /run/openvswitch/db.sock ] && break || sleep 0.02; done
keep ovs-vswitchd switch &
keep ovn-controller ovn-controller --pidfile --verbose=syslog:off "$database" &
