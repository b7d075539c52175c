use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that was done to an Instance because its spec asked for it: Nova's instance action.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceAction {
    /// What.
    pub action: ActionName,
    /// The field of the spec that asked for it.
    #[schemars(length(min = 1, max = 63))]
    pub field: String,
    /// What the field asked for; absent when it was taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub value: Option<String>,
    /// Who changed the field, as the API server knew them. Absent when nobody noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub requested_by: Option<String>,
    /// When it was begun; of a creation, when the object was made.
    pub started_at: Time,
    /// When it ended; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What came of it; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ActionResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

macro_rules! actions {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        /// What can be done to an Instance.
        #[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ActionName { $($(#[doc = $doc])+ $name,)* }

        impl ActionName {
            /// As written in the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

actions! {
    /// It was built, and brought to the power state that it was made with.
    Create
    /// What was stopped was started.
    Start
    /// It was shut down.
    Stop
    /// It was halted.
    Pause
    /// What was halted went on.
    Unpause
    /// Its memory was saved.
    Suspend
    /// It went on from its saved memory.
    Resume
    /// It was shelved.
    Shelve
    /// What was shelved was brought back.
    Unshelve
    /// It was rebooted.
    Reboot
    /// It was rebuilt.
    Rebuild
    /// It got another size, or its old one back.
    Resize
    /// Its new size became final.
    ConfirmResize
    /// It was set up to boot from a rescue disk.
    Rescue
    /// It was set up to boot from its own root disk again.
    Unrescue
    /// It was locked.
    Lock
    /// It was unlocked.
    Unlock
    /// A password was set in the guest.
    ChangePassword
    /// The guest was sent a non-maskable interrupt.
    TriggerCrashDump
    /// It was soft-deleted.
    SoftDelete
    /// What was soft-deleted was restored.
    Restore
    /// It was deleted.
    Delete
}

/// What came of an action.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionResult {
    /// The Instance was as the spec asked.
    Succeeded,
    /// It could not go on without help; the message says why.
    Failed,
    /// The field asked for something else before it was done.
    Superseded,
}

/// Something that was asked for by its time, and begun.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begun {
    /// Which: the `at` that asked for it.
    pub at: Time,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}
