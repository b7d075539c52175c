//! The fake API as a real client sees it.

mod faults;
mod objects;
mod ownership;
mod watches;
#[allow(dead_code, missing_docs)]
#[path = "../widget/mod.rs"]
mod widget;

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use virga_testkit::FakeApi;
use widget::Widget;

pub(crate) fn start() -> (FakeApi, Api<Widget>) {
    let api = FakeApi::new().with_crd::<Widget>();
    let widgets = Api::namespaced(api.client(), "shop");
    (api, widgets)
}

pub(crate) fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer: {other}"),
    }
}

pub(crate) fn apply(manager: &str) -> PatchParams {
    PatchParams::apply(manager)
}

pub(crate) fn body(fields: &Value) -> Patch<Value> {
    let mut body = json!({"apiVersion": "test.virga.dev/v1", "kind": "Widget", "metadata": {"name": "a"}});
    json_patch::merge(&mut body, fields);
    Patch::Apply(body)
}
