# A logical network for two guests, made by ovn-nbctl: a switch with DHCP, a router that leads outside by any of three
# nodes (with fewer than three an OVN gateway does not fail over), the router's address for whoever has no other outside,
# a floating IP of the second guest, a load balancer over both. The maker sets OVN_NB_DB.
set -euo pipefail

# In one transaction.
ovn-nbctl --timeout=20 \
    --id=@dhcp create DHCP_Options cidr=10.1.0.0/24 options:server_id=10.1.0.1 options:server_mac=02:00:00:00:00:01 \
        options:lease_time=3600 options:router=10.1.0.1 options:mtu=1400 \
    -- ls-add inside \
    -- lsp-add inside one -- lsp-set-addresses one "02:00:00:00:01:11 10.1.0.11" \
    -- set Logical_Switch_Port one dhcpv4_options=@dhcp \
    -- lsp-add inside two -- lsp-set-addresses two "02:00:00:00:01:12 10.1.0.12" \
    -- set Logical_Switch_Port two dhcpv4_options=@dhcp \
    -- lr-add router -- lrp-add router router-inside 02:00:00:00:00:01 10.1.0.1/24 \
    -- lsp-add inside inside-router -- lsp-set-type inside-router router -- lsp-set-addresses inside-router router \
    -- lsp-set-options inside-router router-port=router-inside \
    -- ls-add physical -- lsp-add physical cable -- lsp-set-type cable localnet -- lsp-set-addresses cable unknown \
    -- lsp-set-options cable network_name=physnet \
    -- lrp-add router router-physical 02:00:00:00:00:02 10.200.0.10/24 \
    -- lsp-add physical physical-router -- lsp-set-type physical-router router \
    -- lsp-set-addresses physical-router router \
    -- lsp-set-options physical-router router-port=router-physical nat-addresses=router \
    -- lr-route-add router 0.0.0.0/0 10.200.0.1 >/dev/null

# These look up what must be in the database before.
ovn-nbctl --timeout=20 --wait=hv \
    lrp-set-gateway-chassis router-physical node-3 20 \
    -- lrp-set-gateway-chassis router-physical node-2 10 \
    -- lrp-set-gateway-chassis router-physical node-1 5 \
    -- lr-nat-add router snat 10.200.0.10 10.1.0.0/24 \
    -- lr-nat-add router dnat_and_snat 10.200.0.52 10.1.0.12
ovn-nbctl --timeout=20 lb-add web 10.200.0.80:80 10.1.0.11:80,10.1.0.12:80 tcp
ovn-nbctl --timeout=20 --wait=hv lr-lb-add router web
