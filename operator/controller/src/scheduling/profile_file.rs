//! Which profile did the operator write? Read from a file, and again whenever it changes.
//!
//! A profile that can't be used when the process starts keeps it from starting: a rollout stops there, and the replicas
//! that run go on. One that comes later is refused, and what was in use stays in use.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use virga_runtime::class::chain;
use virga_scheduler::{Profile, ProfileError, ProfileSpec};

use super::{Scheduler, profile};

/// How often the file is read. The kubelet itself takes up to a minute to bring a changed ConfigMap to a Pod.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// As much as fits into a ConfigMap, and more than any profile needs.
const MOST_BYTES: usize = 1 << 20;

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("reading the scheduler profile {path}")]
    Io {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is longer than any profile needs.
    #[error("the scheduler profile {0} is longer than 1 MiB")]
    TooLong(PathBuf),
    /// It is no YAML.
    #[error("reading the scheduler profile as YAML")]
    Yaml(#[from] serde_yaml::Error),
    /// A field is unknown or of another type.
    #[error("reading the scheduler profile")]
    Field(#[from] serde_json::Error),
    /// Filters or weighers are wrong; all that is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Profile(Vec<ProfileError>),
}

/// What is known of the profile in use.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    in_use: Family<InUse, Gauge>,
    last_reload_successful: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InUse {
    strategy: String,
    filters: String,
    weighers: String,
}

impl Metrics {
    /// Their place in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "scheduler_profile",
            "1 for the profile in use, with its filters and its weighers' multipliers",
            metrics.in_use.clone(),
        );
        registry.register(
            "scheduler_profile_last_reload_successful",
            "Whether the profile's file could be used when it was read last",
            metrics.last_reload_successful.clone(),
        );
        metrics
    }

    fn using(&self, spec: &ProfileSpec, profile: &Profile) {
        let weighers = profile
            .weighers()
            .map(|(name, multiplier)| format!("{name}={multiplier}"));
        self.in_use.clear();
        self.in_use
            .get_or_create(&InUse {
                strategy: format!("{:?}", spec.strategy),
                filters: profile.filters().collect::<Vec<_>>().join(","),
                weighers: weighers.collect::<Vec<_>>().join(","),
            })
            .set(1);
        self.last_reload_successful.set(1);
    }
}

/// The profile's file, and what it said last.
pub struct ProfileFile {
    path: Option<PathBuf>,
    text: String,
    metrics: Metrics,
}

impl ProfileFile {
    /// Has the scheduler use what the file says, or the standard profile where there is no file.
    pub async fn load(path: Option<PathBuf>, scheduler: &Scheduler, metrics: Metrics) -> Result<Self, Error> {
        let mut file = Self {
            path,
            text: String::new(),
            metrics,
        };
        if let Some(text) = file.read().await? {
            file.text = text;
        }
        file.apply(scheduler)?;
        Ok(file)
    }

    /// Follows the file until `stop`.
    pub async fn follow(mut self, scheduler: Arc<Scheduler>, stop: CancellationToken) {
        if self.path.is_none() {
            return;
        }
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
            self.look(&scheduler).await;
        }
    }

    async fn look(&mut self, scheduler: &Scheduler) {
        let changed = match self.read().await {
            Ok(Some(text)) if text != self.text => {
                self.text = text;
                self.apply(scheduler)
            }
            Ok(_) => return,
            Err(error) => Err(error),
        };
        match changed {
            Ok(()) => tracing::info!("the scheduler profile was read anew"),
            Err(error) => {
                // Said once for each text; the metric stays.
                if self.metrics.last_reload_successful.set(0) != 0 {
                    tracing::error!(
                        error = chain(&error),
                        "the scheduler profile is not used; the one before stays in use"
                    );
                }
            }
        }
    }

    async fn read(&self) -> Result<Option<String>, Error> {
        let Some(path) = &self.path else { return Ok(None) };
        let text = tokio::fs::read_to_string(path).await.map_err(|source| Error::Io {
            path: path.clone(),
            source,
        })?;
        if text.len() > MOST_BYTES {
            return Err(Error::TooLong(path.clone()));
        }
        Ok(Some(text))
    }

    fn apply(&self, scheduler: &Scheduler) -> Result<(), Error> {
        let spec = parse(&self.text)?;
        let profile = Profile::resolve(&spec).map_err(Error::Profile)?;
        self.metrics.using(&spec, &profile);
        scheduler.set_profile(profile);
        Ok(())
    }
}

/// A profile as YAML. What it leaves out is as in [`profile::standard`]; an empty text is that profile.
pub fn parse(text: &str) -> Result<ProfileSpec, Error> {
    let given: Option<Map<String, Value>> = serde_yaml::from_str(text)?;
    let mut spec = serde_json::to_value(profile::standard())?;
    for (field, value) in given.unwrap_or_default() {
        match (field.as_str(), value) {
            ("options", Value::Object(options)) => {
                for (option, value) in options {
                    spec["options"][option] = value;
                }
            }
            (_, value) => spec[field] = value,
        }
    }
    Ok(serde_json::from_value(spec)?)
}

#[cfg(test)]
mod tests {
    use virga_runtime::{clock::SystemClock, metrics};
    use virga_scheduler::{Ratios, Strategy};

    use super::*;
    use crate::{fixtures, scheduling::HostDefaults, stores::Watches};

    #[tokio::test]
    async fn a_file_that_changes_is_followed_and_one_that_is_wrong_is_not_used() {
        virga_runtime::tls::install_crypto_provider();
        let mut registry = metrics::registry();
        let stores = Watches::new(&fixtures::api().client_as("virga"), "virga-system").stores();
        let ratios = Ratios::default();
        let scheduler = Scheduler::new(stores, Arc::new(SystemClock), HostDefaults { ratios }, &mut registry);
        let weighers = || scheduler.state().cluster.profile().weighers().count();
        let told = Metrics::register(&mut registry);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.yaml");

        let missing = ProfileFile::load(Some(path.clone()), &scheduler, told.clone()).await;
        assert!(matches!(missing, Err(Error::Io { .. })));
        std::fs::write(&path, "weighers: [{name: RAMWeigher, multiplier: 2}]").unwrap();
        let mut file = ProfileFile::load(Some(path.clone()), &scheduler, told.clone())
            .await
            .unwrap();
        assert_eq!((weighers(), told.last_reload_successful.get()), (1, 1));
        std::fs::write(&path, "weighers: [{name: HAMWeigher, multiplier: 2}]").unwrap();
        file.look(&scheduler).await;
        assert_eq!((weighers(), told.last_reload_successful.get()), (1, 0));
        std::fs::write(&path, "strategy: Chance").unwrap();
        file.look(&scheduler).await;
        assert_eq!((weighers(), told.last_reload_successful.get()), (0, 1));
    }

    #[test]
    fn what_is_left_out_is_as_in_the_standard_profile() {
        assert_eq!(parse("").unwrap(), profile::standard());
        assert_eq!(parse("{}\n").unwrap(), profile::standard());
        let spec = parse("strategy: Pack\nhostSubsetSize: 3\noptions: {maxInstancesPerHost: 10}\n").unwrap();
        assert_eq!((spec.strategy, spec.host_subset_size.get()), (Strategy::Pack, 3));
        assert_eq!(spec.filters, profile::standard().filters);
        assert_eq!(spec.options.max_instances_per_host, 10);
        assert_eq!(spec.options.max_io_ops_per_host, u32::MAX, "the other options stay");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |text: &str| match parse(text) {
            Err(error) => chain(&error),
            Ok(spec) => chain(&Error::Profile(Profile::resolve(&spec).unwrap_err())),
        };
        let unknown = said("strategie: Pack\n");
        assert!(unknown.contains("unknown field `strategie`"), "{unknown}");
        let both = said("filters: [HamFilter, TrustedFilter]\n");
        assert!(both.contains("HamFilter") && both.contains("CUSTOM_TRUSTED"), "{both}");
        let yaml = said("filters: [\n");
        assert!(yaml.contains("YAML"), "{yaml}");
    }
}
