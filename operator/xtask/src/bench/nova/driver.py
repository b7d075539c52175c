"""Decisions of Nova's filter scheduler on a world that `cargo xtask bench` made.

    driver.py WORLD PROFILE SECONDS

Nova's own HostState, HostManager, filters, weighers and SchedulerManager run, in this process. What they would read from a
database (hosts, aggregates, which Instances are where) is made from the world instead; Placement, the message bus and the
building of HostStates, which Nova repeats for every request, are left out. So a nova-scheduler takes longer than this.

First each request of the world is asked once, for the hosts that pass and the best weight. Then decisions are made, one
after the other, for so many seconds: filter, weigh, choose, and take the room, which is given back, untimed. Prints one
JSON object.
"""

import copy
import datetime
import json
import os
import sys
import time
import uuid
import warnings
from unittest import mock

# Read when nova is imported: without it every blocking call is replaced.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"
warnings.filterwarnings("ignore")

import nova.conf  # noqa: E402
from nova import config  # noqa: E402,F401  (it registers options)
from nova import context, objects  # noqa: E402
from nova.scheduler import host_manager, manager  # noqa: E402
from oslo_log import log  # noqa: E402

CELL = str(uuid.UUID(int=1))
FEWEST = 2
MOST = 400


def configure(profile):
    conf = nova.conf.CONF
    log.register_options(conf)
    conf([], project="nova", default_config_files=[])
    conf.set_override("use_stderr", False)
    conf.set_override("log_file", os.devnull)
    hook = sys.excepthook
    log.setup(conf, "nova")
    # It would write what went wrong into that log.
    sys.excepthook = hook
    # Every host was heard of when this began, and is not heard of again.
    conf.set_override("service_down_time", 10**9)
    conf.set_override("enabled_filters", profile["filters"], group="filter_scheduler")
    settings = [f"{name}={weight}" for name, weight in profile["metrics"].items()]
    conf.set_override("weight_setting", settings, group="metrics")
    conf.set_override("required", False, group="metrics")
    objects.register_all()


def instance_id(host, n):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}/{n}"))


def compute_node(number, host):
    supported = [
        objects.HVSpec(arch=host["architecture"], hv_type=kind, vm_mode="hvm") for kind in ("kvm", "qemu")
    ]
    metrics = [
        {
            "name": "cpu.percent",
            "value": host["cpuPercent"],
            "timestamp": "2026-01-01T00:00:00",
            "source": "world",
        }
    ]
    free_disk = host["diskGb"] - host["usedDiskGb"]
    return objects.ComputeNode(
        id=number,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_DNS, host["name"])),
        host=host["name"],
        hypervisor_hostname=host["name"],
        vcpus=host["vcpus"],
        vcpus_used=host["usedVcpus"],
        memory_mb=host["memoryMb"],
        memory_mb_used=host["usedMemoryMb"],
        free_ram_mb=host["memoryMb"] - host["usedMemoryMb"],
        local_gb=host["diskGb"],
        local_gb_used=host["usedDiskGb"],
        free_disk_gb=free_disk,
        disk_available_least=free_disk,
        hypervisor_type="QEMU",
        hypervisor_version=host["hypervisorVersion"],
        cpu_info=json.dumps({"arch": host["architecture"], "vendor": "AMD", "topology": {"threads": 2}}),
        host_ip=host["address"],
        metrics=json.dumps(metrics),
        stats={
            "num_instances": str(host["instances"]),
            "io_workload": str(host["ioOps"]),
            "failed_builds": str(host["failedBuilds"]),
        },
        numa_topology=None,
        supported_hv_specs=supported,
        pci_device_pools=None,
        cpu_allocation_ratio=4.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
        updated_at=None,
    )


def host_states(world):
    hosts = world["hosts"]
    aggregates = [[] for _ in hosts]
    for number, given in enumerate(world["aggregates"]):
        members = [hosts[at]["name"] for at in given["hosts"]]
        aggregate = objects.Aggregate(id=number, name=given["name"], hosts=members, metadata=given["metadata"])
        for at in given["hosts"]:
            aggregates[at].append(aggregate)
    states = []
    for number, (host, member_of) in enumerate(zip(hosts, aggregates)):
        state = host_manager.HostState(host["name"], host["name"], CELL)
        ids = [instance_id(host["name"], n) for n in range(host["instances"])]
        state.update(
            compute=compute_node(number + 1, host),
            service={
                "host": host["name"],
                "disabled": host["disabled"],
                "disabled_reason": None,
                "forced_down": False,
                "last_seen_up": datetime.datetime.now(datetime.timezone.utc),
                "created_at": None,
                "updated_at": None,
            },
            aggregates=member_of,
            inst_dict={uid: objects.Instance(uuid=uid) for uid in ids},
        )
        # As Placement would have offered it: all of the request from this one provider.
        state.allocation_candidates = [{"allocations": {state.uuid: {"resources": {}}}, "mappings": {"": [state.uuid]}}]
        states.append(state)
    return states


def request_spec(world, request, uid):
    group_hosts = [world["hosts"][at]["name"] for at in world["group"]]
    members = [instance_id(host, 0) for host in group_hosts]
    group = objects.InstanceGroup(
        id=1,
        uuid=str(uuid.UUID(int=2)),
        name="web",
        user_id="user",
        project_id="shop",
        policy="anti-affinity",
        policies=["anti-affinity"],
        _rules={},
        members=members + [uid],
        hosts=group_hosts,
    )
    flavor = objects.Flavor(
        id=1,
        flavorid="1",
        name="m1.large",
        vcpus=request["vcpus"],
        memory_mb=request["memoryMb"],
        root_gb=request["diskGb"],
        ephemeral_gb=0,
        swap=0,
        disabled=False,
        is_public=True,
        extra_specs=dict(request["extraSpecs"]),
        projects=[],
    )
    image = objects.ImageMeta(
        id=str(uuid.UUID(int=3)),
        name="debian",
        disk_format="qcow2",
        container_format="bare",
        min_ram=0,
        min_disk=0,
        properties=objects.ImageMetaProps(**request["image"]),
    )
    return objects.RequestSpec(
        num_instances=1,
        project_id="shop",
        user_id="user",
        availability_zone=None,
        instance_uuid=uid,
        is_bfv=False,
        ignore_hosts=None,
        force_hosts=None,
        force_nodes=None,
        requested_destination=None,
        requested_resources=[],
        retry=None,
        limits=None,
        scheduler_hints={"query": [request["query"]]} if request["query"] else {},
        instance_group=group,
        numa_topology=None,
        pci_requests=objects.InstancePCIRequests(requests=[]),
        security_groups=objects.SecurityGroupList(objects=[]),
        flavor=flavor,
        image=image,
    )


def scheduler():
    kind = host_manager.HostManager
    # Each of these reads the database.
    nothing = dict.fromkeys(("refresh_cells_caches", "_init_aggregates", "_init_instance_info"), lambda *_: None)
    with mock.patch.multiple(kind, **nothing):
        hosts = kind()
    made = object.__new__(manager.SchedulerManager)
    made.host_manager = hosts
    return made


def give_back(state, spec):
    """Undoes what HostState.consume_from_request did, so that every decision is made in the same world."""
    state.free_ram_mb += spec.memory_mb
    state.free_disk_mb += (spec.root_gb + spec.ephemeral_gb) * 1024
    state.vcpus_used -= spec.vcpus
    state.num_instances -= 1
    state.num_io_ops -= 1
    state.instances.pop(spec.instance_uuid)


def main():
    path, name, seconds = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        world = json.load(file)
    profile = world["profiles"][name]
    configure(profile)
    context.RequestContext("user", "shop", is_admin=True)
    states, nova_scheduler = host_states(world), scheduler()
    uids = (str(uuid.UUID(int=number)) for number in range(10**9, 2 * 10**9))

    answers = []
    for request in profile["requests"]:
        spec = request_spec(world, request, next(uids))
        passed = list(nova_scheduler.host_manager.get_filtered_hosts(states, spec))
        weighed = nova_scheduler.host_manager.get_weighed_hosts(passed, spec)
        answers.append({"survivors": len(passed), "best": max(host.weight for host in weighed)})

    spec = request_spec(world, profile["requests"][0], next(uids))
    decisions, spent, until = 0, 0.0, time.monotonic() + float(seconds)
    while decisions < FEWEST or (decisions < MOST and time.monotonic() < until):
        asked = copy.deepcopy(spec)
        asked.instance_uuid = next(uids)
        before = time.process_time()
        chosen = nova_scheduler._get_sorted_hosts(asked, states, 0)[0]
        nova_scheduler._consume_selected_host(chosen, asked, instance_uuid=asked.instance_uuid)
        spent += time.process_time() - before
        decisions += 1
        give_back(chosen, asked)
    print(json.dumps({"answers": answers, "decisions": decisions, "cpuSeconds": spent}))


if __name__ == "__main__":
    main()
