use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AddressPair, BackupSchedule, Begun, Bytes, Condition, GuestStatus, InstanceAction, InstanceTopology, InstanceUsage,
    Qos, Rebuild, RebuildStatus, Rescue, ResizePolicy, ResizeStatus, Shelve, ShelveStatus, Trunk, VnicType, schema,
};

/// A virtual machine: Nova's server.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "virga.dev",
    version = "v1alpha1",
    kind = "Instance",
    plural = "instances",
    singular = "instance",
    shortname = "inst",
    shortname = "vm",
    category = "virga",
    namespaced,
    doc = "A virtual machine.",
    status = "InstanceStatus",
    derive = "PartialEq",
    selectable = ".spec.nodeName",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Task", type_ = "string", json_path = ".status.task"),
    printcolumn(name = "Flavor", type_ = "string", json_path = ".spec.flavor"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.addresses[0].ip"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image.name", priority = 1),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.serverGroup", priority = 1),
    printcolumn(name = "CPU", type_ = "string", json_path = ".status.usage.cpu", priority = 1),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.usage.memory", priority = 1),
    printcolumn(name = "OS", type_ = "string", json_path = ".status.guest.os", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63").message("metadata.name: at most 63 characters: it is the guest's host name"),
    validation = kube::core::Rule::new("has(self.spec.hostname) || !self.metadata.name.contains('.')").message("metadata.name: no dots unless spec.hostname is given: it is the guest's host name"),
    validation = kube::core::Rule::new("!has(self.spec.reboot) || !has(self.status) || !has(self.status.reboot) || self.spec.reboot.at >= self.status.reboot.at || (has(oldSelf.spec.reboot) && oldSelf.spec.reboot.at == self.spec.reboot.at)").message("spec.reboot.at: not before status.reboot.at: that reboot was begun already"),
    validation = kube::core::Rule::new("!has(self.spec.rebuild) || !has(self.status) || !has(self.status.rebuild) || self.spec.rebuild.at >= self.status.rebuild.at || (has(oldSelf.spec.rebuild) && oldSelf.spec.rebuild.at == self.spec.rebuild.at)").message("spec.rebuild.at: not before status.rebuild.at: that rebuild was begun already")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.softDelete) || (!has(self.locked) && self.protection != 'Enabled')").message("softDelete: what is locked or protected can't be deleted: take locked out and set protection to Disabled, or take softDelete out"),
    validation = kube::core::Rule::new("has(self.image) != has(self.bootVolume)").message("exactly one of image and bootVolume must be given: they are the two sources of the root disk"),
    validation = kube::core::Rule::new("!has(self.bootVolume) || !has(self.backup)").message("backup: an Instance that boots from a Volume can't be backed up yet: volumes have no snapshots"),
    validation = kube::core::Rule::new("!has(self.interfaces) || self.interfaces.all(i, !has(i.trunk) || i.trunk.subPorts.all(s, !self.interfaces.exists(other, other.network == s.network) && i.trunk.subPorts.exists_one(other, other.network == s.network)))").message("trunk: an Instance has at most one interface or sub-port a Network: name another Network"),
    validation = kube::core::Rule::new("!has(self.bootVolume) || !has(self.volumes) || !self.volumes.exists(v, v.name == self.bootVolume)").message("bootVolume must not be listed in volumes again"),
    validation = kube::core::Rule::new("self.powerState != 'Suspended' || (oldSelf.powerState != 'Stopped' && oldSelf.powerState != 'Shelved')").message("powerState: what is stopped has no memory to save: set Running first"),
    validation = kube::core::Rule::new("!has(self.softDelete) || self.powerState != 'Shelved'").message("softDelete: what is shelved can't be soft-deleted: set powerState to Stopped with it, or delete the Instance"),
    validation = kube::core::Rule::new("!has(self.rebuild) || !has(self.bootVolume)").message("rebuild: the root disk is the Volume that bootVolume names, and is not made from an image: create an Instance with another Volume"),
    validation = kube::core::Rule::new("!has(self.rescue) || self.powerState == 'Running' || self.powerState == 'Stopped'").message("rescue: what is rescued can only run or be stopped: set powerState to Running or Stopped, or take rescue out"),
    validation = kube::core::Rule::new("!has(self.rescue) || has(self.rescue.image) || has(self.image)").message("rescue.image must be given: what boots from a volume has no image of its own"),
    validation = kube::core::Rule::new("!has(self.rescue) || !has(oldSelf.rescue) || self.rescue == oldSelf.rescue").message("rescue may not change while it is there: take it out, and put it in again with another image"),
    validation = kube::core::Rule::new("has(self.image) == has(oldSelf.image) && (!has(self.image) || self.image == oldSelf.image || (has(self.rebuild) && (!has(oldSelf.rebuild) || self.rebuild.at != oldSelf.rebuild.at)))").message("image may change only with a rebuild, which makes the root disk anew: give a new rebuild.at with it"),
    validation = kube::core::Rule::new("has(self.bootVolume) == has(oldSelf.bootVolume) && (!has(self.bootVolume) || self.bootVolume == oldSelf.bootVolume)").message("bootVolume is immutable: delete the Instance and create it anew"),
    validation = kube::core::Rule::new("(has(self.rebuild) && (!has(oldSelf.rebuild) || self.rebuild.at != oldSelf.rebuild.at)) || has(self.sshKeys) == has(oldSelf.sshKeys) && (!has(self.sshKeys) || self.sshKeys == oldSelf.sshKeys)").message("sshKeys may change only with a rebuild, since the guest reads it at its first boot: give a new rebuild.at with it"),
    validation = kube::core::Rule::new("(has(self.rebuild) && (!has(oldSelf.rebuild) || self.rebuild.at != oldSelf.rebuild.at)) || has(self.userData) == has(oldSelf.userData) && (!has(self.userData) || self.userData == oldSelf.userData)").message("userData may change only with a rebuild, since the guest reads it at its first boot: give a new rebuild.at with it"),
    validation = kube::core::Rule::new("(has(self.rebuild) && (!has(oldSelf.rebuild) || self.rebuild.at != oldSelf.rebuild.at)) || has(self.hostname) == has(oldSelf.hostname) && (!has(self.hostname) || self.hostname == oldSelf.hostname)").message("hostname may change only with a rebuild, since the guest reads it at its first boot: give a new rebuild.at with it"),
    validation = kube::core::Rule::new("has(self.serverGroup) == has(oldSelf.serverGroup) && (!has(self.serverGroup) || self.serverGroup == oldSelf.serverGroup)").message("serverGroup is immutable: an Instance joins a group when it is created"),
    validation = kube::core::Rule::new("has(self.placement) == has(oldSelf.placement) && (!has(self.placement) || self.placement == oldSelf.placement)").message("placement is immutable: it is used once, when the Instance is placed"),
)]
pub struct InstanceSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// The Flavor: how large the machine is. Another one is a resize.
    #[schemars(schema_with = "schema::dotted_name")]
    pub flavor: String,
    /// When a resize is final.
    #[serde(default)]
    #[schemars(extend("default" = "Auto"))]
    pub resize_policy: ResizePolicy,
    /// The Flavor that a resize to is final. To take back one that is not final, set flavor back instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub confirm_resize: Option<String>,
    /// The Image that the root disk is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// The Volume that is the root disk, instead of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub boot_volume: Option<String>,
    /// Network interfaces; the first is the primary one. At most one a Network. They can be added and taken out at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["network"]))]
    pub interfaces: Vec<Interface>,
    /// Volumes to attach. They can be added and taken out at any time; each keeps its device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<VolumeAttachment>,
    /// Public keys that may log in, one OpenSSH line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 16, max = 4096), regex(pattern = r"^(ssh-(rsa|ed25519|dss)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) [A-Za-z0-9+/=]+( [^\n\r]*)?$")), extend("x-kubernetes-list-type" = "set"))]
    pub ssh_keys: Vec<String>,
    /// What cloud-init in the guest is given: exactly one of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserData>,
    /// The guest's host name; the Instance's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub hostname: Option<String>,
    /// A free map that the guest can read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::string_map")]
    pub metadata: BTreeMap<String, String>,
    /// The ServerGroup whose policy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub server_group: Option<String>,
    /// Where it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What it should do.
    #[serde(default)]
    #[schemars(extend("default" = "Running"))]
    pub power_state: PowerState,
    /// How it is shelved, while `powerState` is `Shelved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelve: Option<Shelve>,
    /// A reboot: each new `at` is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<Reboot>,
    /// A rebuild, which makes the root disk anew from the image: each new `at` is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// While this is there, the guest boots from a rescue image, with its own root disk as the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue: Option<Rescue>,
    /// The administrator's password in the guest: each new `at` sets it once, through the guest's agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_password: Option<AdminPassword>,
    /// A non-maskable interrupt for the guest: each new `at` is one (Nova's trigger crash dump).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_dump: Option<CrashDump>,
    /// While this is there the Instance is off and can be restored by taking it out; when its time is over it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_delete: Option<SoftDelete>,
    /// When a guest that ended by itself is started again.
    #[serde(default)]
    #[schemars(extend("default" = "Always"))]
    pub run_policy: RunPolicy,
    /// Images of its root disk that are made again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSchedule>,
    /// What is done about a domain that somebody changed by hand on its host.
    #[serde(default)]
    #[schemars(extend("default" = "Repair"))]
    pub drift_policy: DriftPolicy,
    /// While this is there, nothing else of the spec may change and the Instance can't be deleted (Nova's lock).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<Lock>,
    /// Whether it can be deleted.
    #[serde(default)]
    #[schemars(extend("default" = "Disabled"))]
    pub protection: Protection,
    /// The node that it is bound to. Set by the scheduler, never by users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub node_name: Option<String>,
}

/// A reboot that is asked for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("self.at >= timestamp('2020-01-01T00:00:00Z') && self.at < timestamp('2100-01-01T00:00:00Z')").message("at must be a time of this century, from 2020 on"))]
pub struct Reboot {
    /// When. A time that has passed is now; one before the Instance was created is none.
    pub at: Time,
    /// How.
    #[serde(default, rename = "type")]
    #[schemars(extend("default" = "Soft"))]
    pub type_: RebootType,
}

/// A password that is to be set in the guest.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("self.at >= timestamp('2020-01-01T00:00:00Z') && self.at < timestamp('2100-01-01T00:00:00Z')").message("at must be a time of this century, from 2020 on"))]
pub struct AdminPassword {
    /// From when on. A time that has passed is now: each new one sets the password once more.
    pub at: Time,
    /// The Secret that has the password.
    pub secret_ref: PasswordRef,
    /// Whose password it is, in the guest.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$"), extend("default" = "root"))]
    pub user: String,
}

fn root() -> String {
    "root".into()
}

/// A key of a Secret that has a password.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordRef {
    /// The Secret's name; it is of this namespace.
    #[schemars(schema_with = "schema::dotted_name")]
    pub name: String,
    /// The key that has the password: one line, without a line's end.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253), extend("default" = "password"))]
    pub key: String,
}

fn password_key() -> String {
    "password".into()
}

/// A non-maskable interrupt that is asked for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("self.at >= timestamp('2020-01-01T00:00:00Z') && self.at < timestamp('2100-01-01T00:00:00Z')").message("at must be a time of this century, from 2020 on"))]
pub struct CrashDump {
    /// When. A time that has passed is now; one before the Instance was created is none.
    pub at: Time,
}

/// That an Instance is deleted, but can be restored for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftDelete {
    /// How long it can be restored, from when it is off: a number and `s`, `m` or `h`.
    #[serde(default = "a_day")]
    #[schemars(length(min = 2, max = 6), regex(pattern = r"^[1-9][0-9]{0,4}[smh]$"), extend("default" = "24h"))]
    pub reclaim_after: String,
}

fn a_day() -> String {
    "24h".into()
}

/// Until when a soft-deleted Instance can be restored.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftDeleteStatus {
    /// Since when it is off for it.
    pub since: Time,
    /// When it is deleted, unless it is restored before.
    pub reclaim_at: Time,
}

/// How an Instance is rebooted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebootType {
    /// The guest is asked to shut down (ACPI), and is started again; its process is ended when it takes over a minute.
    #[default]
    Soft,
    /// Its process is ended, and it is started again. Saved memory is thrown away.
    Hard,
}

/// When a guest that ended by itself is started again: KubeVirt's run strategies. Nova's servers are Manual.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPolicy {
    /// Always: after it shut itself down, after a crash, after the host was restarted.
    #[default]
    Always,
    /// Unless it shut itself down.
    OnFailure,
    /// Never.
    Manual,
}

/// What is done about a domain that somebody changed by hand on its host.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriftPolicy {
    /// What Virga defined is put right, what needs a restart at the next start. What was added is told of.
    #[default]
    Repair,
    /// It is told of, until the spec is changed.
    Report,
}

/// Why an Instance is locked.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lock {
    /// For people: told to those who are refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub reason: String,
}

/// Whether something can be deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protection {
    /// It can.
    #[default]
    Disabled,
    /// It can't, until this is Disabled.
    Enabled,
}

/// An Image, of this namespace or another.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRef {
    /// Its name.
    #[schemars(schema_with = "schema::dotted_name")]
    pub name: String,
    /// Its namespace, when it is another project's and public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub namespace: Option<String>,
}

/// One network interface.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("has(self.address) == has(oldSelf.address) && (!has(self.address) || self.address == oldSelf.address)").message("address can't change while the interface is there: take the interface out, apply, and add it anew with the other address"),
    validation = kube::core::Rule::new("has(self.mac) == has(oldSelf.mac) && (!has(self.mac) || self.mac == oldSelf.mac)").message("mac can't change while the interface is there: take the interface out, apply, and add it anew with the other mac"),
    validation = kube::core::Rule::new("has(self.networkNamespace) == has(oldSelf.networkNamespace) && (!has(self.networkNamespace) || self.networkNamespace == oldSelf.networkNamespace)").message("networkNamespace can't change while the interface is there: take the interface out, apply, and add it anew"),
    validation = kube::core::Rule::new("!has(self.port) || (!has(self.address) && !has(self.mac) && !has(self.securityGroups) && !has(self.allowedAddressPairs) && !has(self.qos))").message("address, mac, securityGroups, allowedAddressPairs and qos are the Port's: write them there, or leave port out"),
    validation = kube::core::Rule::new("has(self.port) == has(oldSelf.port) && (!has(self.port) || self.port == oldSelf.port)").message("port can't change while the interface is there: take the interface out, apply, and add it anew"),
    validation = kube::core::Rule::new("self.vnicType == oldSelf.vnicType").message("vnicType can't change while the interface is there: take the interface out, apply, and add it anew"),
)]
pub struct Interface {
    /// The Network that it is plugged into.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The Network's namespace, when it is one that shares it with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub network_namespace: Option<String>,
    /// A Port that was made beforehand, of this namespace and in this Network, instead of one that is made for the interface. It
    /// stays when the interface goes. One Instance has it at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub port: Option<String>,
    /// The address that it must get; one is chosen when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// The MAC address that it must get; one is made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: Option<String>,
    /// Its SecurityGroups; `default` when there are none. They may change at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::security_groups")]
    pub security_groups: Vec<String>,
    /// What the guest may send from besides its own addresses. They may change at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Instead of the Network's, as a whole; `{}`: no limits and no mark. It may change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// What it is on the host. No host has other than `Normal` yet: one that asks for more waits, and says so.
    #[serde(default, skip_serializing_if = "VnicType::is_normal")]
    #[schemars(extend("default" = "Normal"))]
    pub vnic_type: VnicType,
    /// Other Networks that the guest has as VLANs of this interface. With OVN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Trunk>,
}

impl Interface {
    /// The namespace of the Network, for an Instance of this namespace.
    pub fn network_in<'a>(&'a self, own: &'a str) -> &'a str {
        self.network_namespace.as_deref().unwrap_or(own)
    }
}

/// A Volume to attach.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeAttachment {
    /// Its name.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
}

/// What cloud-init in the guest is given.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("has(self.inline) != has(self.secretRef)").message("exactly one of inline and secretRef must be given"))]
pub struct UserData {
    /// The text itself: at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub inline: Option<String>,
    /// A Secret of this namespace that has the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// A key of a Secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(schema_with = "schema::dotted_name")]
    pub name: String,
    /// The key that has the text.
    #[serde(default = "user_data_key")]
    #[schemars(length(min = 1, max = 253), extend("default" = "userData"))]
    pub key: String,
}

fn user_data_key() -> String {
    "userData".into()
}

/// Where an Instance may run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Only hosts of this availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub availability_zone: Option<String>,
    /// Only this host, if it passes the filters, when the Instance is placed first; later moves forget it. For those who
    /// may `bind` the Hypervisor: operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub host: Option<String>,
    /// Wishes that hosts are filtered by: Nova's scheduler hints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<SchedulerHints>,
}

/// Nova's scheduler hints. Its hint `group` is `spec.serverGroup`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("!has(self.cidr) || has(self.buildNearHostIP)").message("cidr says how near buildNearHostIP is: give that too"))]
pub struct SchedulerHints {
    /// Only hosts that have none of these Instances, which are of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub different_host: Vec<String>,
    /// Only hosts that have one of these Instances, which are of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub same_host: Vec<String>,
    /// Only hosts of which this holds, in the language of Nova's JsonFilter, such as
    /// `[">=", "$free_ram_mb", 4096]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 4096))]
    pub query: Option<String>,
    /// Only hosts whose own address is near this one.
    #[serde(default, rename = "buildNearHostIP", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub build_near_host_ip: Option<String>,
    /// How near: the prefix of the network that both are in; `/24` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 4), regex(pattern = r"^/[0-9]{1,3}$"))]
    pub cidr: Option<String>,
}

/// What an Instance should do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerState {
    /// Run.
    #[default]
    Running,
    /// Be shut down: asked by ACPI first, then switched off.
    Stopped,
    /// Stand still, with its memory kept.
    Paused,
    /// Take no memory and no processor: its memory is saved on the host's disk, and it goes on from there.
    Suspended,
    /// Be shut down, with its root disk in an Image, and take nothing of any host (Nova's shelve and shelve offload).
    Shelved,
}

/// What became of an Instance.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The generation that this status was computed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// What the user should see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InstanceState>,
    /// The step under way; absent when idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub task: Option<String>,
    /// What libvirt says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<ObservedPower>,
    /// The Flavor as the machine was built with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<BuiltFlavor>,
    /// The Image that the root disk was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// The last reboot that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootStatus>,
    /// The last rebuild that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildStatus>,
    /// The last resize that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Box<ResizeStatus>>,
    /// The last interrupt that was begun. Without an end nobody knows whether the guest got it: ask for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_dump: Option<Begun>,
    /// The last password that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_password: Option<Begun>,
    /// How far its shelving is, from when it is off for it until it is as asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shelve: Option<ShelveStatus>,
    /// Until when it can be restored, while it is soft-deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_delete: Option<SoftDeleteStatus>,
    /// The host that has the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dotted_name")]
    pub host: Option<String>,
    /// Its addresses, the primary one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<Address>,
    /// Which CPUs, pages and devices of its host it has, if it asked for any; the same as long as it is on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<InstanceTopology>,
    /// Hosts that could not take it since it was last placed, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "atomic"))]
    pub rejected_by: Vec<String>,
    /// Why it was placed where it is, or nowhere. Absent while something is missing that it needs to be placed at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub scheduling: Option<InstanceScheduling>,
    /// What was done to it because its spec asked for it, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub actions: Vec<InstanceAction>,
    /// What it used over the last minutes, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub usage: Option<Box<InstanceUsage>>,
    /// What the guest's agent said last, while it runs and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub guest: Option<Box<GuestStatus>>,
    /// Scheduled, StorageReady, NetworkReady, Running, Ready; Drifted, Reconciling and Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A reboot that was begun.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RebootStatus {
    /// Which: the `at` that asked for it.
    pub at: Time,
    /// When the guest was started again; absent while it is shutting down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The decision that placed an Instance, or found no host for it. It names no host: its own is `spec.nodeName`, and the
/// others are for operators to know.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceScheduling {
    /// When it was decided.
    pub decided_at: Time,
    /// Who asked.
    pub decided_by: DecidedBy,
    /// How many hosts were looked at.
    #[schemars(range(min = 0))]
    pub hosts: i32,
    /// How many of them passed every filter.
    #[schemars(range(min = 0))]
    pub survivors: i32,
    /// How many hosts each filter took out, in the order in which the filters ran. Each host is counted once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["filter"]))]
    pub rejections: Vec<FilterRejections>,
    /// The weights of the best three hosts, best first, as decimal numbers. Weights of different decisions can't be
    /// compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), inner(length(min = 1, max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$")), extend("x-kubernetes-list-type" = "atomic"))]
    pub weights: Vec<String>,
    /// Which of these weights is the chosen host's, counted from 1; absent when it is none of the best three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub rank: Option<i32>,
    /// How long the room had been reserved when the queue sent the binding, in milliseconds. Absent when it was placed
    /// while it was created: then the reservation is as old as the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub reservation_age_milliseconds: Option<i64>,
}

/// Who asked the scheduler for a host.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecidedBy {
    /// The create request itself.
    Admission,
    /// The queue of those that admission could not place.
    Queue,
}

/// The hosts that one filter took out.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterRejections {
    /// The filter.
    #[schemars(length(min = 1, max = 63))]
    pub filter: String,
    /// How many hosts.
    #[schemars(range(min = 0))]
    pub hosts: i32,
}

/// What a user should see of an Instance: Nova's `vm_state`, with what is under way folded in.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// It waits for a host, or is being built.
    Building,
    /// It runs.
    Active,
    /// It is shut down.
    Stopped,
    /// It stands still.
    Paused,
    /// Its memory is saved on the host's disk.
    Suspended,
    /// It is off, and its root disk is in an Image. `shelve.offloadedAt` says whether it has left its host.
    Shelved,
    /// It is set up to boot from a rescue image. `powerState` says whether it runs.
    Rescued,
    /// It has its new size and can have its old one back, until the resize is confirmed. `powerState` says whether it runs.
    Resized,
    /// It is off, and is deleted when its window is over, unless it is restored.
    SoftDeleted,
    /// It can't go on without help; the conditions say why.
    Error,
    /// It is being deleted.
    Deleting,
}

/// What libvirt says of the domain.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedPower {
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// It is off.
    Stopped,
    /// It is off, and its memory is saved.
    Suspended,
    /// It was found crashed.
    Crashed,
    /// libvirt, or the node, can't be asked.
    Unknown,
}

/// The Flavor as a machine was built with it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuiltFlavor {
    /// Its name.
    #[schemars(schema_with = "schema::dotted_name")]
    pub name: String,
    /// Virtual CPUs.
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: u16,
    /// Memory.
    pub memory: Bytes,
    /// The root disk.
    pub disk: Bytes,
}

/// An address of an Instance.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The Network.
    #[schemars(schema_with = "schema::name")]
    pub network: String,
    /// The address.
    #[schemars(schema_with = "schema::address")]
    pub ip: String,
    /// The interface's MAC address.
    #[schemars(length(max = 17))]
    pub mac: String,
}
