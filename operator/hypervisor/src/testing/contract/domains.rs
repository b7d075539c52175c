//! The contract's part on domains.

use uuid::Uuid;

use super::{Ability, PATIENCE, Setting, expect_kind, wait_for_event};
use crate::testing::eventually;
use crate::{
    Change, Console, DomainState, InterfaceOptions, InterfaceSource, InterfaceSpec, Kind, MacAddress, Owner,
    SavedMemory, StateReason, Topology,
};

pub(super) fn check(setting: &Setting<'_>) {
    a_domain_lives_and_every_step_can_be_repeated(setting);
    a_definition_takes_effect_with_the_next_start(setting);
    what_is_not_there_is_not_found(setting);
    what_can_not_be_right_is_refused(setting);
    a_name_is_given_once(setting);
    what_is_foreign_is_left_alone(setting);
    odd_texts_come_back_as_they_were(setting);
    life_is_told_in_events(setting);
    saved_memory_is_gone_on_from_once(setting);
    saved_memory_that_is_damaged_stays_until_it_is_discarded(setting);
    a_start_without_its_network_says_so(setting);
    the_power_button_stops_a_guest_that_listens(setting);
    a_disk_grows_while_its_guest_runs(setting);
    a_console_is_a_conversation_of_one(setting);
    usage_is_told_of_what_runs_and_was_asked_for(setting);
}

pub(super) fn remove(setting: &Setting<'_>, uuid: Uuid) {
    setting.hypervisor.destroy(uuid).expect("destroying");
    setting.hypervisor.undefine(uuid).expect("undefining");
}

fn a_domain_lives_and_every_step_can_be_repeated(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let mut spec = setting.domain(1);
    spec.topology = Topology::sockets(2);
    let uuid = spec.uuid;
    for _ in 0..2 {
        hypervisor.define(&spec).expect("defining");
    }
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!(info.state, DomainState::ShutOff);
    assert_eq!((&info.name, &info.owner), (&spec.name, &spec.owner));
    assert_eq!((info.memory_bytes, info.vcpus), (64 << 20, 2));
    assert_eq!(hypervisor.domains().expect("listing"), [info]);

    expect_kind(
        hypervisor.suspend(uuid),
        Kind::InvalidState,
        "suspending what does not run",
    );
    expect_kind(
        hypervisor.resume(uuid),
        Kind::InvalidState,
        "resuming what does not run",
    );
    for _ in 0..2 {
        hypervisor.destroy(uuid).expect("destroying what does not run");
        hypervisor.shutdown(uuid).expect("shutting down what does not run");
    }
    for _ in 0..2 {
        hypervisor.start(uuid).expect("starting");
        let info = hypervisor.domain(uuid).expect("reading");
        assert_eq!((info.state, info.reason), (DomainState::Running, StateReason::Booted));
    }
    expect_kind(hypervisor.undefine(uuid), Kind::InvalidState, "undefining what runs");
    for _ in 0..2 {
        hypervisor.suspend(uuid).expect("suspending");
        let info = hypervisor.domain(uuid).expect("reading");
        assert_eq!(info.state, DomainState::Paused);
        assert_eq!(info.reason, StateReason::User);
        hypervisor.start(uuid).expect("starting what is paused");
        assert_eq!(hypervisor.domain(uuid).expect("reading").state, DomainState::Paused);
    }
    for _ in 0..2 {
        hypervisor.resume(uuid).expect("resuming");
        assert_eq!(hypervisor.domain(uuid).expect("reading").state, DomainState::Running);
    }
    hypervisor.reset(uuid).expect("resetting");
    assert_eq!(hypervisor.domain(uuid).expect("reading").state, DomainState::Running);
    for _ in 0..2 {
        hypervisor.destroy(uuid).expect("destroying");
        let info = hypervisor.domain(uuid).expect("reading");
        assert_eq!(
            (info.state, info.reason),
            (DomainState::ShutOff, StateReason::Destroyed)
        );
    }
    hypervisor.start(uuid).expect("starting again");
    remove(setting, uuid);
    assert_eq!(hypervisor.domains().expect("listing"), []);
}

fn a_definition_takes_effect_with_the_next_start(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let mut spec = setting.domain(2);
    let uuid = spec.uuid;
    hypervisor.define(&spec).expect("defining");
    hypervisor.start(uuid).expect("starting");
    spec.owner.generation = 2;
    spec.topology = Topology::sockets(2);
    hypervisor.define(&spec).expect("defining anew");
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!(
        (info.state, info.vcpus, info.owner.generation),
        (DomainState::Running, 1, 1)
    );
    hypervisor.destroy(uuid).expect("destroying");
    hypervisor.start(uuid).expect("starting");
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!((info.vcpus, info.owner.generation), (2, 2));

    let owner = Owner {
        generation: 3,
        ..spec.owner.clone()
    };
    hypervisor.set_owner(uuid, &owner).expect("marking what runs");
    assert_eq!(hypervisor.domain(uuid).expect("reading").owner, owner);
    hypervisor.destroy(uuid).expect("destroying");
    hypervisor.set_owner(uuid, &owner).expect("marking what does not run");
    assert_eq!(hypervisor.domain(uuid).expect("reading").owner, owner);
    remove(setting, uuid);
}

fn what_is_not_there_is_not_found(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(3);
    let uuid = spec.uuid;
    expect_kind(hypervisor.domain(uuid), Kind::NotFound, "reading");
    expect_kind(hypervisor.set_owner(uuid, &spec.owner), Kind::NotFound, "marking");
    expect_kind(hypervisor.start(uuid), Kind::NotFound, "starting");
    expect_kind(hypervisor.shutdown(uuid), Kind::NotFound, "shutting down");
    expect_kind(hypervisor.destroy(uuid), Kind::NotFound, "destroying");
    expect_kind(hypervisor.suspend(uuid), Kind::NotFound, "suspending");
    expect_kind(hypervisor.resume(uuid), Kind::NotFound, "resuming");
    expect_kind(hypervisor.save(uuid), Kind::NotFound, "saving");
    expect_kind(
        hypervisor.discard_saved(uuid),
        Kind::NotFound,
        "discarding saved memory",
    );
    expect_kind(hypervisor.reset(uuid), Kind::NotFound, "resetting");
    expect_kind(hypervisor.undefine(uuid), Kind::NotFound, "undefining");
    expect_kind(hypervisor.resize_disk(uuid, "vda", 1 << 20), Kind::NotFound, "resizing");
    expect_kind(hypervisor.disk_faults(uuid), Kind::NotFound, "looking at disks");
    expect_kind(hypervisor.has_guest_agent(uuid), Kind::NotFound, "looking for an agent");
    expect_kind(hypervisor.guest_info(uuid), Kind::NotFound, "asking an agent");
    expect_kind(hypervisor.inject_nmi(uuid), Kind::NotFound, "interrupting");
    expect_kind(hypervisor.open_console(uuid, true), Kind::NotFound, "opening a console");
}

fn what_can_not_be_right_is_refused(setting: &Setting<'_>) {
    let mut spec = setting.domain(4);
    spec.disks[0].serial = Some("more than twenty bytes long".to_owned());
    expect_kind(
        setting.hypervisor.define(&spec),
        Kind::Invalid,
        "a serial that is too long",
    );
    expect_kind(
        setting.hypervisor.domain(spec.uuid),
        Kind::NotFound,
        "reading what was refused",
    );
}

fn a_name_is_given_once(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let (first, mut second) = (setting.domain(5), setting.domain(6));
    second.name.clone_from(&first.name);
    hypervisor.define(&first).expect("defining");
    expect_kind(hypervisor.define(&second), Kind::AlreadyExists, "a name that is taken");
    let mut renamed = first.clone();
    renamed.name.push_str("-b");
    expect_kind(
        hypervisor.define(&renamed),
        Kind::AlreadyExists,
        "another name for the same UUID",
    );
    remove(setting, first.uuid);
}

fn what_is_foreign_is_left_alone(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let mut spec = setting.domain(7);
    let uuid = spec.uuid;
    (setting.add_foreign)(uuid, "theirs");
    assert_eq!(hypervisor.domains().expect("listing"), []);
    expect_kind(hypervisor.domain(uuid), Kind::Foreign, "reading");
    expect_kind(hypervisor.define(&spec), Kind::Foreign, "defining over it");
    expect_kind(
        hypervisor.set_owner(uuid, &spec.owner),
        Kind::Foreign,
        "marking it as ours",
    );
    expect_kind(hypervisor.start(uuid), Kind::Foreign, "starting");
    expect_kind(hypervisor.shutdown(uuid), Kind::Foreign, "shutting down");
    expect_kind(hypervisor.destroy(uuid), Kind::Foreign, "destroying");
    expect_kind(hypervisor.suspend(uuid), Kind::Foreign, "suspending");
    expect_kind(hypervisor.resume(uuid), Kind::Foreign, "resuming");
    expect_kind(hypervisor.save(uuid), Kind::Foreign, "saving");
    expect_kind(
        hypervisor.discard_saved(uuid),
        Kind::Foreign,
        "discarding its saved memory",
    );
    expect_kind(hypervisor.reset(uuid), Kind::Foreign, "resetting");
    expect_kind(hypervisor.undefine(uuid), Kind::Foreign, "undefining");
    expect_kind(hypervisor.guest_info(uuid), Kind::Foreign, "asking its agent");
    expect_kind(hypervisor.inject_nmi(uuid), Kind::Foreign, "interrupting");
    expect_kind(
        hypervisor.open_console(uuid, true),
        Kind::Foreign,
        "opening its console",
    );
    // Nor is its name.
    spec = setting.domain(8);
    "theirs".clone_into(&mut spec.name);
    expect_kind(hypervisor.define(&spec), Kind::AlreadyExists, "taking its name");
}

fn odd_texts_come_back_as_they_were(setting: &Setting<'_>) {
    let mut spec = setting.domain(9);
    "a\"b'c<d>&e".clone_into(&mut spec.owner.namespace);
    "tab\tline\nreturn\rend ]]> äß漢🦀 &amp;".clone_into(&mut spec.owner.name);
    spec.title = Some("</title><x a=\"1\">&lt;".to_owned());
    setting.hypervisor.define(&spec).expect("defining");
    assert_eq!(setting.hypervisor.domain(spec.uuid).expect("reading").owner, spec.owner);
    setting.hypervisor.set_owner(spec.uuid, &spec.owner).expect("marking");
    assert_eq!(setting.hypervisor.domain(spec.uuid).expect("reading").owner, spec.owner);
    remove(setting, spec.uuid);
}

fn life_is_told_in_events(setting: &Setting<'_>) {
    let mut events = setting.hypervisor.events(100);
    let spec = setting.domain(10);
    setting.hypervisor.define(&spec).expect("defining");
    wait_for_event(&mut events, spec.uuid, Change::Defined);
    setting.hypervisor.start(spec.uuid).expect("starting");
    wait_for_event(&mut events, spec.uuid, Change::Started);
    setting.hypervisor.suspend(spec.uuid).expect("suspending");
    wait_for_event(&mut events, spec.uuid, Change::Suspended);
    setting.hypervisor.resume(spec.uuid).expect("resuming");
    wait_for_event(&mut events, spec.uuid, Change::Resumed);
    setting.hypervisor.destroy(spec.uuid).expect("destroying");
    wait_for_event(&mut events, spec.uuid, Change::Stopped);
    setting.hypervisor.undefine(spec.uuid).expect("undefining");
    wait_for_event(&mut events, spec.uuid, Change::Undefined);
}

fn saved_memory_is_gone_on_from_once(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(15);
    let uuid = spec.uuid;
    hypervisor.define(&spec).expect("defining");
    expect_kind(hypervisor.save(uuid), Kind::InvalidState, "saving what does not run");
    hypervisor
        .discard_saved(uuid)
        .expect("discarding where nothing is saved");
    hypervisor.start(uuid).expect("starting");
    assert_eq!(hypervisor.domain(uuid).expect("reading").saved, SavedMemory::None);
    for _ in 0..2 {
        hypervisor.save(uuid).expect("saving");
        let info = hypervisor.domain(uuid).expect("reading");
        assert_eq!((info.state, info.saved), (DomainState::ShutOff, SavedMemory::Whole));
    }
    hypervisor.start(uuid).expect("going on");
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!(info.state, DomainState::Running);
    if setting.can(Ability::TellRestoredGuests) {
        assert_eq!(info.reason, StateReason::Restored);
    }
    hypervisor.destroy(uuid).expect("destroying");
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!(info.saved, SavedMemory::None, "what was gone on from is used up");

    hypervisor.start(uuid).expect("starting");
    hypervisor.save(uuid).expect("saving");
    for _ in 0..2 {
        hypervisor.discard_saved(uuid).expect("discarding");
        let info = hypervisor.domain(uuid).expect("reading");
        assert_eq!((info.state, info.saved), (DomainState::ShutOff, SavedMemory::None));
    }
    hypervisor.start(uuid).expect("starting");
    let info = hypervisor.domain(uuid).expect("reading");
    assert_eq!(info.reason, StateReason::Booted);
    hypervisor.save(uuid).expect("saving");
    hypervisor.undefine(uuid).expect("undefining with what is saved");
    hypervisor.define(&spec).expect("defining");
    assert_eq!(hypervisor.domain(uuid).expect("reading").saved, SavedMemory::None);
    remove(setting, uuid);
}

fn saved_memory_that_is_damaged_stays_until_it_is_discarded(setting: &Setting<'_>) {
    let Some(damage) = setting.damage_saved else { return };
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(16);
    let uuid = spec.uuid;
    hypervisor.define(&spec).expect("defining");
    hypervisor.start(uuid).expect("starting");
    hypervisor.save(uuid).expect("saving");
    damage(uuid, &spec.name);
    let broken = || matches!(hypervisor.domain(uuid).expect("reading").saved, SavedMemory::Broken(_));
    assert!(broken());
    for _ in 0..2 {
        expect_kind(hypervisor.start(uuid), Kind::Failed, "going on from damaged memory");
        assert!(broken(), "the guest is not booted afresh behind its user's back");
    }
    hypervisor.discard_saved(uuid).expect("discarding");
    hypervisor.start(uuid).expect("starting");
    assert_eq!(hypervisor.domain(uuid).expect("reading").reason, StateReason::Booted);
    remove(setting, uuid);
}

fn a_start_without_its_network_says_so(setting: &Setting<'_>) {
    let mut spec = setting.domain(11);
    spec.interfaces.push(InterfaceSpec {
        mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 11]),
        source: InterfaceSource::Network("virga-nowhere".to_owned()),
        mtu: None,
        alias: Some("ua-port-1".to_owned()),
        options: InterfaceOptions::default(),
    });
    setting.hypervisor.define(&spec).expect("defining");
    if setting.can(Ability::RefuseStartsWithoutNetwork) {
        expect_kind(
            setting.hypervisor.start(spec.uuid),
            Kind::InvalidState,
            "starting without the network",
        );
    }
    remove(setting, spec.uuid);
}

fn the_power_button_stops_a_guest_that_listens(setting: &Setting<'_>) {
    let spec = setting.domain(12);
    setting.hypervisor.define(&spec).expect("defining");
    setting.hypervisor.start(spec.uuid).expect("starting");
    if setting.can(Ability::GuestsObeyThePowerButtonInTime) {
        // A guest that is still booting does not listen: press until it does, as the agent's retries do.
        eventually("the guest shut itself down", PATIENCE, || {
            setting.hypervisor.shutdown(spec.uuid).expect("shutting down");
            let info = setting.hypervisor.domain(spec.uuid).expect("reading");
            (info.state == DomainState::ShutOff).then(|| assert_eq!(info.reason, StateReason::Shutdown))
        });
        setting.wait_for_state(spec.uuid, DomainState::ShutOff);
    }
    remove(setting, spec.uuid);
}

fn a_disk_grows_while_its_guest_runs(setting: &Setting<'_>) {
    if !setting.can(Ability::ResizeDisks) {
        return;
    }
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(13);
    hypervisor.define(&spec).expect("defining");
    expect_kind(
        hypervisor.resize_disk(spec.uuid, "vda", 2 << 20),
        Kind::InvalidState,
        "resizing what does not run",
    );
    hypervisor.start(spec.uuid).expect("starting");
    hypervisor.resize_disk(spec.uuid, "vda", 2 << 20).expect("resizing");
    expect_kind(
        hypervisor.resize_disk(spec.uuid, "vdb", 2 << 20),
        Kind::Invalid,
        "resizing a disk that is not there",
    );
    remove(setting, spec.uuid);
}

fn a_console_is_a_conversation_of_one(setting: &Setting<'_>) {
    if !setting.can(Ability::Consoles) {
        return;
    }
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(14);
    hypervisor.define(&spec).expect("defining");
    expect_kind(
        hypervisor.open_console(spec.uuid, true),
        Kind::InvalidState,
        "a console of what does not run",
    );
    hypervisor.start(spec.uuid).expect("starting");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut console = hypervisor.open_console(spec.uuid, false).expect("opening the console");
        echo(&mut console, b"one").await;
        expect_kind(
            hypervisor.open_console(spec.uuid, false),
            Kind::Busy,
            "a second session",
        );
        let mut second = hypervisor
            .open_console(spec.uuid, true)
            .expect("taking the console over");
        ended(&mut console).await;
        echo(&mut second, b"two").await;
        hypervisor.destroy(spec.uuid).expect("destroying");
        ended(&mut second).await;
        drop(second);
        hypervisor.start(spec.uuid).expect("starting");
        let mut third = hypervisor
            .open_console(spec.uuid, false)
            .expect("a console after a restart");
        echo(&mut third, b"three").await;
        drop(third);
        let _fourth = hypervisor
            .open_console(spec.uuid, false)
            .expect("a console after one was closed");
    });
    remove(setting, spec.uuid);
}

fn usage_is_told_of_what_runs_and_was_asked_for(setting: &Setting<'_>) {
    let hypervisor = setting.hypervisor;
    let spec = setting.domain(17);
    let uuid = spec.uuid;
    let told = |of: &[Uuid]| -> Vec<Uuid> {
        let usage = hypervisor.usage(of).expect("reading what domains use");
        usage.iter().map(|usage| usage.uuid).collect()
    };
    hypervisor.define(&spec).expect("defining");
    assert!(told(&[uuid]).is_empty(), "it does not run");
    expect_kind(
        hypervisor.guest_info(uuid),
        Kind::InvalidState,
        "asking the agent of what is off",
    );
    expect_kind(
        hypervisor.inject_nmi(uuid),
        Kind::InvalidState,
        "interrupting what is off",
    );
    hypervisor.start(uuid).expect("starting");
    assert_eq!(told(&[uuid]), [uuid]);
    assert!(told(&[]).is_empty());
    assert!(!hypervisor.has_guest_agent(uuid).expect("looking for an agent"));
    remove(setting, uuid);
    assert!(told(&[uuid]).is_empty());
}

/// Types until the guest has said it all back. A guest that is still booting hears nothing, so it is typed again.
async fn echo(console: &mut Console, word: &[u8]) {
    let mut heard: Vec<u8> = Vec::new();
    let talk = async {
        loop {
            assert_eq!(console.write(word).expect("writing"), word.len());
            let pause = std::time::Duration::from_millis(500);
            while let Ok(output) = tokio::time::timeout(pause, console.read()).await {
                heard.extend(output.expect("the console stays open"));
                if heard.windows(word.len()).any(|window| window == word) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, talk)
        .await
        .expect("the guest said it back in time");
}

async fn ended(console: &mut Console) {
    let drain = async { while console.read().await.is_some() {} };
    tokio::time::timeout(PATIENCE, drain)
        .await
        .expect("the console ended in time");
}
