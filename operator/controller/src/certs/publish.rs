//! How do clients learn whom to trust? From the webhook configurations, and from a ConfigMap.

use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::WebhookClientConfig, core::v1::ConfigMap},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use virga_crds::managers;
use virga_runtime::apply::Object;

use super::{CONFIG_MAP, CONFIG_MAP_KEY, Error, Options, within};

/// What is to be published, and where.
pub(super) struct Publisher<'a> {
    pub client: &'a Client,
    pub options: &'a Options,
    /// The trusted certificates, PEM.
    pub bundle: &'a str,
}

impl Publisher<'_> {
    /// Puts the bundle where agents read it.
    pub(super) async fn to_agents(&self, live: Option<&ConfigMap>) -> Result<(), Error> {
        let is_so = |live: &ConfigMap| {
            live.data
                .as_ref()
                .and_then(|data| data.get(CONFIG_MAP_KEY))
                .is_some_and(|text| text == self.bundle)
        };
        if live.is_some_and(is_so) {
            return Ok(());
        }
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "namespace": self.options.namespace},
            "data": {CONFIG_MAP_KEY: self.bundle},
        });
        let what = "publishing the certificate authority to the agents";
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.options.namespace);
        // Forced: whoever wrote something else there, it is ours to mend.
        let params = PatchParams::apply(managers::CONTROLLER).force();
        done(
            what,
            within(api.patch(CONFIG_MAP, &params, &Patch::Apply(&wanted))).await,
        )?;
        Ok(())
    }

    /// The patch that puts the bundle into those webhooks that call our Services.
    fn operations<'b>(&self, hooks: impl Iterator<Item = (&'b str, &'b WebhookClientConfig)>) -> Vec<PatchOperation> {
        let bundle = ByteString(self.bundle.as_bytes().to_vec());
        let ours = |config: &WebhookClientConfig| {
            config.service.as_ref().is_some_and(|service| {
                service.namespace == self.options.namespace && self.options.services.contains(&service.name)
            })
        };
        let mut operations = Vec::new();
        for (index, (name, config)) in hooks.enumerate() {
            if !ours(config) || config.ca_bundle.as_ref() == Some(&bundle) {
                continue;
            }
            let index = index.to_string();
            let path =
                |steps: &[&str]| PointerBuf::from_tokens(["webhooks", &index].into_iter().chain(steps.iter().copied()));
            operations.push(PatchOperation::Test(TestOperation {
                path: path(&["name"]),
                value: name.into(),
            }));
            operations.push(PatchOperation::Add(AddOperation {
                path: path(&["clientConfig", "caBundle"]),
                value: json!(bundle),
            }));
        }
        operations
    }

    /// Puts the bundle into a webhook configuration, which has these webhooks.
    pub(super) async fn to_webhooks<'b, K>(
        &self,
        live: &K,
        hooks: impl Iterator<Item = (&'b str, &'b WebhookClientConfig)>,
    ) -> Result<(), Error>
    where
        K: Object,
    {
        let operations = self.operations(hooks);
        if operations.is_empty() {
            return Ok(());
        }
        let what = "publishing the certificate authority in the webhook configuration";
        let api = Api::<K>::all_with(self.client.clone(), &());
        let params = PatchParams {
            field_manager: Some(managers::CONTROLLER.into()),
            ..PatchParams::default()
        };
        let name = live.name_any();
        done(
            what,
            within(api.patch(&name, &params, &Patch::Json::<()>(JsonPatch(operations)))).await,
        )?;
        tracing::info!(kind = %K::kind(&()), name, "published the certificate authority");
        Ok(())
    }
}

fn done<T>(what: &'static str, answer: Option<kube::Result<T>>) -> Result<(), Error> {
    match answer {
        Some(Ok(_)) => Ok(()),
        Some(Err(source)) => Err(Error::Api {
            what,
            source: Box::new(source),
        }),
        None => Err(Error::TimedOut { what }),
    }
}
