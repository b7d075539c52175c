//! Plans on the model, one question each: whose is what, what can't be, and how little is written.

use std::collections::BTreeMap;

use uuid::Uuid;
use virga_ovsdb::{
    northbound::{
        AddressSet, HaChassisGroup, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Meter,
        NbGlobal, PortGroup,
    },
    operation::{Mutation, Mutator, Operation},
    reconcile::{Desired, OWNER, Problem, RowId},
    table::Ref,
    value::{Atom, Set, Value},
};

use crate::{
    model::Model,
    reconcile::{marks, pass, put},
    transact::{insert, named, text},
    world::OURS,
};

fn switch_with_port() -> Desired {
    let mut desired = Desired::new(OURS);
    let port = LogicalSwitchPort {
        name: "p".to_owned(),
        ..Default::default()
    };
    let switch = LogicalSwitch {
        name: "net".to_owned(),
        ports: [desired.insert("p", &port)].into(),
        ..Default::default()
    };
    desired.insert("net", &switch);
    desired
}

fn only(model: &Model, table: &str) -> Uuid {
    let rows = &model.tables[table];
    assert_eq!(rows.len(), 1, "{rows:?}");
    *rows.keys().next().unwrap()
}

fn id(table: &'static str, key: &str) -> RowId {
    RowId { table, key: key.into() }
}

#[test]
fn somebody_elses_port_in_our_switch_stays_and_keeps_the_switch() {
    let mut model = Model::new();
    pass(&mut model, &switch_with_port());
    let switch = only(&model, "Logical_Switch");
    let theirs = insert("Logical_Switch_Port", Some("x"), &[("name", text("theirs"))]);
    model
        .transact(&[theirs, put("Logical_Switch", switch, "ports", named("x"))])
        .unwrap();
    assert!(pass(&mut model, &switch_with_port()).is_empty());

    // Our port goes, their port and so the switch stay.
    let plan = pass(&mut model, &Desired::new(OURS));
    assert!(
        matches!(&plan.problems[..], [Problem::Holds { uuid, .. }] if *uuid == switch),
        "{:?}",
        plan.problems
    );
    let name = |row: &BTreeMap<Box<str>, Value>| row["name"].clone();
    assert_eq!(
        model.tables["Logical_Switch_Port"]
            .values()
            .map(name)
            .collect::<Vec<_>>(),
        [text("theirs")]
    );

    let port = only(&model, "Logical_Switch_Port");
    let leave = Operation::Mutate {
        table: "Logical_Switch".into(),
        conditions: vec![virga_ovsdb::operation::Condition::row(switch)],
        mutations: vec![Mutation::new(
            "ports",
            Mutator::Delete,
            Value::Set(Set::from_iter([Atom::Uuid(port)])),
        )],
    };
    model.transact(&[leave]).unwrap();
    assert_eq!(pass(&mut model, &Desired::new(OURS)).problems, []);
    assert!(model.replica().is_empty());
}

#[test]
fn what_somebody_else_holds_is_kept_deep_down() {
    let mut desired = Desired::new(OURS);
    let port = LogicalRouterPort {
        name: "lrp".to_owned(),
        networks: ["10.0.0.1/24".to_owned()].into(),
        ..Default::default()
    };
    let router = LogicalRouter {
        ports: [desired.insert("lrp", &port)].into(),
        ..Default::default()
    };
    desired.insert("router", &router);
    let mut model = Model::new();
    pass(&mut model, &desired);
    let lrp = only(&model, "Logical_Router_Port");
    let gateway = insert("Gateway_Chassis", Some("g"), &[("name", text("g"))]);
    model
        .transact(&[gateway, put("Logical_Router_Port", lrp, "gateway_chassis", named("g"))])
        .unwrap();
    let plan = pass(&mut model, &Desired::new(OURS));
    assert_eq!(plan.problems.len(), 2, "{:?}", plan.problems);
    only(&model, "Logical_Router");
    only(&model, "Gateway_Chassis");

    // A router that stays does not drop a port that has to.
    let mut router_alone = Desired::new(OURS);
    router_alone.insert("router", &LogicalRouter::default());
    assert_eq!(pass(&mut model, &router_alone).problems.len(), 1);
    only(&model, "Gateway_Chassis");
}

#[test]
fn what_somebody_else_needs_is_not_deleted() {
    let mut desired = Desired::new(OURS);
    let set = AddressSet {
        name: "s".to_owned(),
        ..Default::default()
    };
    desired.insert("s", &set);
    let mut model = Model::new();
    pass(&mut model, &desired);
    let ours = Value::Set(Set::from_iter([Atom::Uuid(only(&model, "Address_Set"))]));
    let nat = insert("NAT", Some("n"), &[("type", text("snat")), ("allowed_ext_ips", ours)]);
    model
        .transact(&[nat, insert("Logical_Router", None, &[("nat", named("n"))])])
        .unwrap();
    let plan = pass(&mut model, &Desired::new(OURS));
    assert!(
        matches!(&plan.problems[..], [Problem::Needed { .. }]),
        "{:?}",
        plan.problems
    );
    assert!(plan.is_empty());
}

#[test]
fn a_name_that_somebody_else_has_leaves_out_that_row_and_no_other() {
    let mut model = Model::new();
    model
        .transact(&[insert("Port_Group", None, &[("name", text("g"))])])
        .unwrap();
    let mut desired = switch_with_port();
    let group = |name: &str| PortGroup {
        name: name.to_owned(),
        ports: [Ref::to("p")].into(),
        ..Default::default()
    };
    desired.insert("group", &group("g"));
    desired.insert("twin-1", &group("twin"));
    desired.insert("twin-2", &group("twin"));
    let plan = pass(&mut model, &desired);
    let taken = plan.problems.iter().map(|problem| match problem {
        Problem::Taken { row, .. } => row.to_string(),
        other => panic!("{other}"),
    });
    assert_eq!(taken.collect::<Vec<_>>(), ["Port_Group group", "Port_Group twin-2"]);
    assert_eq!(model.tables["Port_Group"].len(), 2);
    only(&model, "Logical_Switch_Port");
}

#[test]
fn what_cannot_be_is_told_and_does_not_stop_the_rest() {
    let mut desired = switch_with_port();
    let port = |name: &str| LogicalSwitchPort {
        name: name.to_owned(),
        dhcpv4_options: Some(Ref::to("nowhere")),
        ..Default::default()
    };
    desired.insert("orphan", &port("orphan"));
    desired.insert("p", &port("again"));
    let meter = Meter {
        name: "m".to_owned(),
        bands: [Ref::to("no-band")].into(),
        ..Default::default()
    };
    desired.insert("m", &meter);
    let acl = virga_ovsdb::northbound::Acl {
        tier: 2,
        ..Default::default()
    };
    let group = PortGroup {
        name: "g".to_owned(),
        ports: [Ref::to("gone")].into(),
        acls: [desired.insert("acl", &acl)].into(),
        ..Default::default()
    };
    desired.insert("g", &group);
    let mut model = Model::new();
    let mut expected = vec![
        Problem::Twice(id("Logical_Switch_Port", "p")),
        Problem::Orphan(id("Logical_Switch_Port", "orphan")),
        Problem::Incomplete {
            row: id("Meter", "m"),
            column: "bands",
        },
        Problem::NoReferent {
            row: id("Port_Group", "g"),
            column: "ports",
            key: "gone".into(),
        },
        // OVN 23.03 of Debian 12 has no tiers.
        Problem::NoColumn {
            row: id("ACL", "acl"),
            column: "tier",
        },
    ];
    if crate::server::schema().table("ACL").unwrap().column("tier").is_some() {
        expected.pop();
    }
    expected.sort();
    assert_eq!(pass(&mut model, &desired).problems, expected);
    only(&model, "Logical_Switch");
    only(&model, "Port_Group");
    only(&model, "ACL");
}

#[test]
fn what_others_write_into_our_rows_stays() {
    let mut model = Model::new();
    pass(&mut model, &switch_with_port());
    let (switch, port) = (only(&model, "Logical_Switch"), only(&model, "Logical_Switch_Port"));
    let note = Value::Map([("note".into(), "theirs".into())].into_iter().collect());
    let up = Operation::Update {
        table: "Logical_Switch_Port".into(),
        conditions: vec![virga_ovsdb::operation::Condition::row(port)],
        row: vec![
            ("up".into(), Value::Set(Set::from_iter([Atom::Boolean(true)]))),
            ("tag".into(), Value::Set(Set::from_iter([Atom::Integer(7)]))),
        ],
    };
    model
        .transact(&[put("Logical_Switch", switch, "external_ids", note), up])
        .unwrap();
    assert!(pass(&mut model, &switch_with_port()).is_empty());

    // A mark of ours that nobody wants goes, and so does drift in a column of ours.
    let stray = Value::Map([("virga.dev/old".into(), "x".into())].into_iter().collect());
    let drift = Value::Map([("vlan-passthru".into(), "true".into())].into_iter().collect());
    let steps = [
        put("Logical_Switch", switch, "external_ids", stray),
        put("Logical_Switch", switch, "other_config", drift),
    ];
    model.transact(&steps).unwrap();
    assert_eq!(pass(&mut model, &switch_with_port()).updated, 1);
    let Value::Map(ids) = &model.tables["Logical_Switch"][&switch]["external_ids"] else {
        panic!("it is a map");
    };
    assert_eq!((ids.len(), ids.text("note")), (3, Some("theirs")));
}

#[test]
fn two_rows_with_one_key_become_one_and_one_without_a_key_is_made_anew() {
    let mut model = Model::new();
    let net = || insert("Logical_Switch", None, &[("external_ids", marks(OURS, "net"))]);
    let lost = Value::Map([(OWNER.into(), OURS.into())].into_iter().collect());
    model
        .transact(&[net(), net(), insert("Logical_Switch", None, &[("external_ids", lost)])])
        .unwrap();
    let plan = pass(&mut model, &switch_with_port());
    assert_eq!((plan.inserted, plan.updated, plan.removed), (1, 1, 2));
    only(&model, "Logical_Switch");
}

#[test]
fn the_settings_of_ovn_are_everybodys() {
    let mut model = Model::new();
    let mut desired = Desired::new(OURS);
    let global = NbGlobal {
        options: BTreeMap::from([("mac_prefix".to_owned(), "0a:00:00".to_owned())]),
        ..Default::default()
    };
    desired.insert("global", &global);
    pass(&mut model, &desired);
    let row = only(&model, "NB_Global");
    let theirs = Value::Map([("max_tunid".into(), "9".into())].into_iter().collect());
    model.transact(&[put("NB_Global", row, "options", theirs)]).unwrap();
    assert!(pass(&mut model, &desired).is_empty());
    assert!(pass(&mut model, &Desired::new(OURS)).is_empty());
    assert_eq!(only(&model, "NB_Global"), row);
}

#[test]
fn one_port_more_among_many_is_one_row_and_one_reference() {
    let many = |count: usize| {
        let mut desired = Desired::new(OURS);
        let ports = (0..count).map(|at| {
            let name = format!("p{at}");
            desired.insert(
                name.as_str(),
                &LogicalSwitchPort {
                    name: name.clone(),
                    ..Default::default()
                },
            )
        });
        let ports = ports.collect();
        desired.insert(
            "net",
            &LogicalSwitch {
                ports,
                ..Default::default()
            },
        );
        desired
    };
    let mut model = Model::new();
    pass(&mut model, &many(100));
    let plan = pass(&mut model, &many(101));
    let [Operation::Mutate { mutations, .. }, Operation::Insert { .. }] = &plan.operations[..] else {
        panic!("{:#?}", plan.operations);
    };
    let [
        Mutation {
            column,
            mutator: Mutator::Insert,
            value: Value::Set(ports),
        },
    ] = &mutations[..]
    else {
        panic!("{mutations:?}");
    };
    assert_eq!((&**column, ports.len()), ("ports", 1));
    let plan = pass(&mut model, &many(100));
    assert_eq!((plan.operations.len(), plan.removed), (1, 1));
}

#[test]
fn a_row_that_has_become_part_of_nothing_does_not_hold_up_what_it_refers_to() {
    let port = || LogicalSwitchPort {
        name: "p".to_owned(),
        ha_chassis_group: Some(Ref::to("ha")),
        ..Default::default()
    };
    let mut desired = Desired::new(OURS);
    let group = HaChassisGroup {
        name: "ha".to_owned(),
        ..Default::default()
    };
    desired.insert("ha", &group);
    let switch = LogicalSwitch {
        ports: [desired.insert("p", &port())].into(),
        ..Default::default()
    };
    desired.insert("net", &switch);
    let mut model = Model::new();
    pass(&mut model, &desired);
    let mut orphan = Desired::new(OURS);
    orphan.insert("p", &port());
    let plan = pass(&mut model, &orphan);
    assert_eq!(plan.problems, [Problem::Orphan(id("Logical_Switch_Port", "p"))]);
    assert!(model.replica().is_empty());
}

#[test]
fn a_part_refers_to_rows_of_the_rest_as_far_as_they_are_there() {
    let mut model = Model::new();
    pass(&mut model, &switch_with_port());
    let port = only(&model, "Logical_Switch_Port");
    let group = || {
        let mut desired = Desired::part(OURS, |key| key == "group");
        let group = PortGroup {
            name: "group".to_owned(),
            ports: [Ref::to("p"), Ref::to("gone")].into(),
            ..Default::default()
        };
        desired.insert("group", &group);
        desired
    };
    let plan = pass(&mut model, &group());
    let row = &model.tables["Port_Group"][&only(&model, "Port_Group")];
    let there: Set = [Atom::Uuid(port)].into_iter().collect();
    assert_eq!(row["ports"], Value::Set(there));
    assert!(
        matches!(&plan.problems[..], [Problem::NoReferent { key, .. }] if &**key == "gone"),
        "{:?}",
        plan.problems
    );
    assert!(pass(&mut model, &group()).is_empty());
}
